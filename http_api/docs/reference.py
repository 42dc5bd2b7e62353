"""The reference page for people, served at ``/developers/reference``.

Its frame and prose are pages/reference.html.jinja. Fields, headers and examples are those of the
OpenAPI document, error codes those of the catalogue. Errors link here: every code has a section
whose anchor is the code.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import jinja2
from markupsafe import Markup, escape

from core import limits
from core.access.api_keys import KEY_PREFIX, KEY_RANDOM_BYTES
from core.access.rate_limits import BURST_SECONDS
from core.error_codes import CATALOGUE, STREAM_REASONS, ErrorCode, Retry
from http_api.docs.openapi import EVENT_CODES, OPERATION_CODES, Node, document
from http_api.errors import HTTP_STATUS, METHOD_NOT_ALLOWED, NOT_FOUND, envelope
from http_api.paths import (
    DOCUMENT_PATH,
    EVENTS_PATH,
    JSON_DOCUMENT_PATH,
    PING_PATH,
    SNAPSHOTS_PATH,
)

# Types with a table of their own, so that it is not repeated wherever they occur.
_TYPE_ANCHORS: Final = {"Actor": "actor", "EventCategory": "event-category", "Metric": "metric"}
_CODE_SPAN: Final = re.compile(r"`([^`]+)`")


@cache
def render_reference(base_url: str) -> bytes:
    """The page as UTF-8 HTML, made once for each base URL."""
    whole = document(base_url)
    page = _Page(whole)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("http_api.docs", "pages"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "prose": _prose,
        "paragraphs": _paragraphs,
        "alternatives": _alternatives,
        "indented_json": _indented_json,
    }
    text = environment.get_template("reference.html.jinja").render(
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
        curl=page.curl,
        phrase=lambda status: HTTPStatus(int(status)).phrase,
        codes_of=lambda operation: [
            code for code in ErrorCode if code in OPERATION_CODES[operation]
        ],
        response_headers=_response_headers(whole["components"]["headers"]),
        error_example=envelope(
            ErrorCode.INVALID_KEY.value,
            "There is no such API key.",
            whole["components"]["responses"]["Unauthorized"]["content"]["application/json"][
                "examples"
            ][ErrorCode.INVALID_KEY.value]["value"]["error"]["requestId"],
            base_url,
        ),
        errors=_errors(),
        stream_ends={reason.value: said for reason, said in STREAM_REASONS.items()},
    )
    return text.encode()


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

    path: str
    required: bool
    node: Node
    meaning: Markup


class _Page:
    """The OpenAPI document, as far as the page asks it."""

    def __init__(self, whole: Node) -> None:
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

    def curl(self, path: str, method: str, operation: Node) -> str:
        """A command that sends the first example."""
        base_url = self._whole["servers"][0]["url"]
        lines = [
            f"curl {shlex.quote(base_url + path)}",
            '-H "Authorization: Bearer $WEPEOPLE_API_KEY"',
        ]
        if method == "post":
            content = operation["requestBody"]["content"]["application/json"]
            first, *_ = content["examples"].values()
            lines += [
                '-H "Content-Type: application/json"',
                '-H "Idempotency-Key: crm-batch-8412"',
                f"-d {shlex.quote(_indented_json(first['value']))}",
            ]
        return " \\\n  ".join(lines)


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


def _response_headers(headers: Mapping[str, Node]) -> list[tuple[Markup, Markup]]:
    when = {
        "Retry-After": "With 429, and with 500 if the failure is one that passes.",
        "WWW-Authenticate": "With 401.",
    }
    return [
        (
            Markup("<code>{}</code>").format(name),
            _prose(f"{header['description']} {when.get(name, '')}".strip()),
        )
        for name, header in headers.items()
        if name != "Retry-After-If-Known"
    ]


# --- errors ----------------------------------------------------------------------------------


class _Error(NamedTuple):
    """The section of one error code."""

    code: str
    status: int
    meaning: str
    facts: Mapping[str, str]


def _error(code: str, status: int, meaning: str, remedy: str, retry: Retry, where: str) -> _Error:
    facts = {
        "Status": f"{int(status)} {HTTPStatus(status).phrase}",
        "What to do": remedy,
        "Retry": f"{retry.value[0].upper()}{retry.value[1:]}.",
        "Where": where,
    }
    return _Error(code, status, meaning, facts)


def _errors() -> list[_Error]:
    return [
        *(
            _error(
                code.value,
                HTTP_STATUS[code],
                known.meaning,
                known.remedy,
                known.retry,
                _where(code),
            )
            for code, known in CATALOGUE.items()
        ),
        _error(
            NOT_FOUND,
            HTTPStatus.NOT_FOUND,
            "There is nothing at this path.",
            f"Compare the path with those of the endpoints; all of them start with "
            f"`{PING_PATH.rpartition('/')[0]}/`.",
            Retry.NEVER,
            "Any other path.",
        ),
        _error(
            METHOD_NOT_ALLOWED,
            HTTPStatus.METHOD_NOT_ALLOWED,
            "The path exists, but not with this method.",
            "Use one of the methods that the `Allow` header names.",
            Retry.NEVER,
            "Any path, with a method it does not have.",
        ),
    ]


def _where(code: ErrorCode) -> str:
    paths = {"ping": PING_PATH, "ingestEvents": EVENTS_PATH, "ingestSnapshot": SNAPSHOTS_PATH}
    names = [
        f"`{path.rpartition('/')[2]}`"
        for operation, path in paths.items()
        if code in OPERATION_CODES[operation]
    ]
    where = "All endpoints." if len(names) == len(paths) else f"{' and '.join(names)}."
    return f"{where} Also for single events of a batch." if code in EVENT_CODES else where
