"""The reference page for people, served at ``/developers/reference``.

Its prose is templates/reference.html.jinja. Fields, headers and examples are those of the
OpenAPI document, error codes those of the catalogue. Errors link here: every code has a section
whose anchor is the code.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import jinja2
from markupsafe import Markup, escape

from core import limits
from core.access.api_keys import KEY_PREFIX, KEY_RANDOM_BYTES
from core.access.rate_limits import BURST_SECONDS
from core.error_codes import ErrorCode
from http_api.docs.code import Example, code_block, tabs
from http_api.docs.error_sections import error_sections, operator_errors, stream_ends
from http_api.docs.examples import ENDPOINTS, request_examples
from http_api.docs.frame import REFERENCE, render_page, templates
from http_api.docs.grpc_contract import contract
from http_api.docs.openapi import OPERATION_CODES, Node, document
from http_api.paths import DOCUMENT_PATH, JSON_DOCUMENT_PATH, MANAGE_PATH
from http_api.site import KEY_PLACEHOLDER, Site

# Types with a table of their own, so that it is not repeated wherever they occur.
_TYPE_ANCHORS: Final = {"Actor": "actor", "EventCategory": "event-category", "Metric": "metric"}
# The document has no example of it: tools would send it with every body that they try.
_IDEMPOTENCY_KEY: Final = "crm-batch-8412"
_CODE_SPAN: Final = re.compile(r"`([^`]+)`")


def render_reference(site: Site) -> bytes:
    """The page as UTF-8 HTML."""
    return render_page(REFERENCE, reference_content(site))


@cache
def _template() -> jinja2.Template:
    environment = templates().overlay()
    environment.filters = environment.filters | {
        "prose": _prose,
        "paragraphs": _paragraphs,
        "alternatives": _alternatives,
        "indented_json": _indented_json,
    }
    return environment.get_template("reference.html.jinja")


@cache
def reference_content(site: Site) -> Markup:
    """What is in the frame, made once for each site."""
    base_url = site.base_url
    whole = document(base_url)
    page = _Page(site, whole)
    text = _template().render(
        base_url=base_url,
        document_path=DOCUMENT_PATH,
        json_document_path=JSON_DOCUMENT_PATH,
        limits=limits,
        key_prefix=KEY_PREFIX,
        key_digits=2 * KEY_RANDOM_BYTES,
        burst="one second" if BURST_SECONDS == 1 else f"{BURST_SECONDS:g} seconds",
        operations=[
            (path, method, operation)
            for path, methods in whole["paths"].items()
            for method, operation in methods.items()
        ],
        schemas=whole["components"]["schemas"],
        resolve=page.resolve,
        fields_of=page.fields_of,
        meaning_of=_meaning_of,
        type_of=_type_of,
        examples_of=page.examples,
        export=tabs([Example("Shell", "sh", f"export WEPEOPLE_API_KEY={KEY_PLACEHOLDER}")], "key"),
        json_block=lambda label, value: code_block(_indented_json(value), "json", label),
        phrase=lambda status: HTTPStatus(int(status)).phrase,
        codes_of=lambda operation: [
            code for code in ErrorCode if code in OPERATION_CODES[operation]
        ],
        response_headers=_response_headers(whole["components"]["headers"]),
        errors=error_sections(whole),
        stream_ends=stream_ends(),
        operator_errors=operator_errors(),
        manage_document_path=f"{MANAGE_PATH}/openapi.json",
        contract=contract(),
        rpc_of={operation: endpoint.rpc for operation, endpoint in ENDPOINTS.items()},
        path_of={endpoint.rpc: endpoint.path for endpoint in ENDPOINTS.values()},
        operation_of={endpoint.rpc: operation for operation, endpoint in ENDPOINTS.items()},
        grpc_target=site.grpc_target,
        hyphened=lambda name: name.replace("_", "-"),
    )
    return Markup(text)  # noqa: S704 - the template escapes


# --- text ------------------------------------------------------------------------------------


def _prose(text: str) -> Markup:
    """Escaped text; `words` between backticks become code."""
    return Markup(_CODE_SPAN.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped


def _paragraphs(text: str) -> Markup:
    return Markup().join(Markup("<p>{}</p>").format(_prose(one)) for one in text.split("\n\n"))


def _alternatives(values: Iterable[str]) -> Markup:
    return Markup(", ").join(Markup("<code>{}</code>").format(value) for value in values)


def _indented_json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


# --- schemas ---------------------------------------------------------------------------------


class _Field(NamedTuple):
    """One member of an object, or of an object in it."""

    path: str  # also the end of its anchor
    required: bool
    node: Node
    meaning: Markup


class _Page:
    """The OpenAPI document, as far as the page asks it."""

    def __init__(self, site: Site, whole: Node) -> None:
        self._site = site
        self._whole = whole

    def resolve(self, node: Node) -> Node:
        """The node itself, or the one it refers to."""
        found: Any = node
        while "$ref" in found:
            pointer, found = found["$ref"], self._whole
            for step in pointer.removeprefix("#/").split("/"):
                found = found[step]
        return found  # type: ignore[no-any-return]

    def fields_of(self, schema: Node, prefix: str = "") -> Iterator[_Field]:
        """Each member, and those of nested objects after it with their path."""
        schema = self.resolve(schema)
        for name, node in schema["properties"].items():
            path, resolved = f"{prefix}{name}", self.resolve(node)
            required = name in schema.get("required", ())
            yield _Field(path, required, node, _meaning_of(resolved["description"], resolved))
            items = self.resolve(node["items"]) if "items" in node else {}
            if "properties" in items:
                yield from self.fields_of(items, f"{path}[].")

    def examples(self, operation: Node) -> Markup:
        """Programs that send the first example of a request, in tabs."""
        name, body, key = operation["operationId"], "", None
        if "requestBody" in operation:
            content = operation["requestBody"]["content"]["application/json"]
            first, *_ = content["examples"].values()
            body, key = _indented_json(first["value"]), _IDEMPOTENCY_KEY
        return tabs(request_examples(self._site, name, body, key), f"{name}-example")


def _type_of(node: Node) -> Markup:
    if "$ref" in node:
        name = node["$ref"].rpartition("/")[2]
        anchor = _TYPE_ANCHORS.get(name)
        return Markup('<a href="#{}">{}</a>').format(anchor, name) if anchor else escape(name)
    if "items" in node:
        return Markup("array of {}").format(_type_of(node["items"]))
    if isinstance(node.get("additionalProperties"), dict):
        return Markup("object of {}").format(_type_of(node["additionalProperties"]))
    return escape(f"{node['type']}, {node['format']}" if "format" in node else node["type"])


def _meaning_of(description: str, schema: Node) -> Markup:
    return Markup(" ").join([_prose(description), *_bounds(schema)])


def _bounds(node: Node) -> list[Markup]:
    """The demands of a schema's keywords, in words."""
    said: list[Markup] = []
    match node:
        case {"minLength": 0, "maxLength": most}:
            said.append(Markup("Up to {} characters.").format(most))
        case {"minLength": least, "maxLength": most}:
            said.append(Markup("{} to {} characters.").format(least, most))
        case {"minItems": least, "maxItems": most}:
            said.append(Markup("{} to {} of them.").format(least, most))
        case {"minimum": least, "maximum": most}:
            said.append(Markup("{} to {}.").format(least, most))
    if node.get("pattern") == limits.TYPE_PATTERN:
        said.append(Markup("Pattern: <code>{}</code>.").format(node["pattern"]))
    if "enum" in node:
        said.append(Markup("One of {}.").format(_alternatives(node["enum"])))
    return said


def _response_headers(headers: Mapping[str, Node]) -> list[tuple[str, str]]:
    when = {
        "Retry-After": "With 429, and with 500 if the failure is one that passes.",
        "WWW-Authenticate": "With 401.",
    }
    return [
        (name, f"{header['description']} {when.get(name, '')}".strip())
        for name, header in headers.items()
        if name != "Retry-After-If-Known"
    ]
