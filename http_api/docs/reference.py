"""The reference page for people, served at ``/developers/reference``.

The frame and the prose are ``pages/reference.html``; fields, headers and examples are those of the
OpenAPI document, error codes those of the catalogue. Errors point here: every code has a section
whose anchor is the code.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from html import escape
from http import HTTPStatus
from importlib import resources
from string import Template
from typing import Any, Final, NamedTuple

from core import limits
from core.access.api_keys import KEY_PREFIX, KEY_RANDOM_BYTES
from core.access.rate_limits import BURST_SECONDS
from core.error_codes import CATALOGUE, STREAM_REASONS, ErrorCode, Retry, StreamReason
from http_api.docs.openapi import DOCUMENT_PATH, EVENT_CODES, OPERATION_CODES, Node, document
from http_api.errors import HTTP_STATUS, METHOD_NOT_ALLOWED, NOT_FOUND, envelope
from http_api.paths import EVENTS_PATH, PING_PATH, SNAPSHOTS_PATH


class _Entry(NamedTuple):
    """What the page says about one error code."""

    code: str
    status: int
    meaning: str
    remedy: str
    retry: Retry
    where: str


# Types with a table of their own, so that it is not repeated wherever they occur.
_TYPE_ANCHORS: Final = {"Actor": "actor", "EventCategory": "event-category", "Metric": "metric"}
_CODE_SPAN: Final = re.compile(r"`([^`]+)`")


@cache
def render_reference(base_url: str) -> bytes:
    """The page as UTF-8 HTML, made once for each base URL."""
    whole = document(base_url)
    operations = _operations(whole)
    template = Template(
        resources.files("http_api.docs").joinpath("pages", "reference.html").read_text("utf-8")
    )
    page = template.substitute(
        base_url=escape(base_url),
        version=escape(limits.API_VERSION),
        document_path=DOCUMENT_PATH,
        key_prefix=KEY_PREFIX,
        key_digits=2 * KEY_RANDOM_BYTES,
        endpoint_links="".join(
            f'<li><a href="#{operation["operationId"]}">{_last_part(path)}</a></li>'
            for path, _, operation in operations
        ),
        endpoints="\n".join(
            _endpoint(whole, path, method, operation) for path, method, operation in operations
        ),
        types=_types(whole),
        response_headers=_response_headers(whole),
        idempotency_key_range=f"1 to {limits.MAX_IDEMPOTENCY_KEY_CHARACTERS}",
        idempotency_window=f"{limits.IDEMPOTENCY_WINDOW_SECONDS // 60} minutes",
        key_rate=limits.DEFAULT_KEY_REQUESTS_PER_SECOND,
        organization_rate=limits.DEFAULT_ORGANIZATION_REQUESTS_PER_SECOND,
        burst_seconds="one second" if BURST_SECONDS == 1 else f"{BURST_SECONDS:g} seconds",
        limits=_limits(),
        error_example=_error_example(whole, base_url),
        status_table=_status_table(),
        errors="\n".join(_error(entry) for entry in _entries()),
        stream_ends="\n".join(_stream_end(reason) for reason in StreamReason),
    )
    return page.encode()


# --- pieces of HTML --------------------------------------------------------------------------


def _prose(text: str) -> str:
    """Escaped text; `words` between backticks become code."""
    return _CODE_SPAN.sub(r"<code>\1</code>", escape(text))


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{_prose(paragraph)}</p>" for paragraph in text.split("\n\n"))


def _code_block(label: str, text: str) -> str:
    # Focusable, so that a block that is wider than a phone can be scrolled without a pointer.
    return (
        f'<pre tabindex="0" role="region" aria-label="{escape(label)}">'
        f"<code>{escape(text)}</code></pre>"
    )


def _json_block(label: str, value: object) -> str:
    return _code_block(label, json.dumps(value, indent=2, ensure_ascii=False))


def _table(heads: Sequence[str], rows: Iterable[tuple[str, str]]) -> str:
    """A table of two columns; the cells are HTML."""
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    body = "\n".join(
        f'<tr><th scope="row">{name}</th><td>{meaning}</td></tr>' for name, meaning in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>"


def _code_link(code: str) -> str:
    return f'<a href="#{escape(code)}"><code>{escape(code)}</code></a>'


def _code_list(codes: Iterable[str]) -> str:
    return f'<ul class="codes">{"".join(f"<li>{_code_link(code)}</li>" for code in codes)}</ul>'


# --- endpoints -------------------------------------------------------------------------------


def _operations(whole: Node) -> list[tuple[str, str, Node]]:
    return [
        (path, method, operation)
        for path, methods in whole["paths"].items()
        for method, operation in methods.items()
    ]


def _last_part(path: str) -> str:
    return escape(path.rpartition("/")[2])


def _resolve(whole: Node, node: Node) -> Node:
    found: Any = node
    while "$ref" in found:
        pointer, found = found["$ref"], whole
        for step in pointer.removeprefix("#/").split("/"):
            found = found[step]
    return found  # type: ignore[no-any-return]


def _endpoint(whole: Node, path: str, method: str, operation: Node) -> str:
    name = operation["operationId"]
    body = operation.get("requestBody")
    parts = [
        f'<article aria-labelledby="{name}">',
        (
            f'<h3 id="{name}"><span class="method {method}">{method.upper()}</span>'
            f'<span class="path">{escape(path)}</span></h3>'
        ),
        f"<p><strong>{_prose(operation['summary'])}.</strong></p>",
        _paragraphs(operation["description"]),
        "<h4>Request headers</h4>",
        _request_headers(whole, operation),
    ]
    examples: list[object] = [None]
    if body is not None:
        content = body["content"]["application/json"]
        schema = _resolve(whole, content["schema"])
        examples = [example["value"] for example in content["examples"].values()]
        parts += ["<h4>Request body</h4>", _paragraphs(body["description"])]
        parts.append(_table(("Field", "Meaning"), _fields(whole, schema)))
    parts.append("<h4>Example</h4>")
    parts.append(_code_block("Example request", _curl(whole, path, method, examples[0])))
    for status, response in operation["responses"].items():
        if int(status) < HTTPStatus.BAD_REQUEST:
            parts.append(f"<h4>Response {status} {HTTPStatus(int(status)).phrase}</h4>")
            parts.append(_paragraphs(response["description"]))
            for example in response["content"]["application/json"]["examples"].values():
                parts.append(_json_block(f"Response {status}", example["value"]))
    parts.append("<h4>Errors</h4>")
    parts.append(_code_list(code for code in ErrorCode if code in OPERATION_CODES[name]))
    parts.append("</article>")
    return "\n".join(parts)


def _request_headers(whole: Node, operation: Node) -> str:
    rows = [
        ("<code>Authorization</code>" + _need(True), _prose(f"`Bearer {KEY_PREFIX}…`, your key."))
    ]
    if "requestBody" in operation:
        rows += [
            ("<code>Content-Type</code>" + _need(True), _prose("`application/json`.")),
            (
                "<code>Content-Encoding</code>" + _need(False),
                _prose("`gzip`, if the body is compressed."),
            ),
        ]
    for reference in operation.get("parameters", ()):
        parameter = _resolve(whole, reference)
        rows.append(
            (
                f"<code>{escape(parameter['name'])}</code>" + _need(parameter["required"]),
                _meaning(parameter["schema"] | {"description": parameter["description"]}),
            )
        )
    return _table(("Header", "Meaning"), rows)


def _need(required: bool) -> str:
    return f'<span class="type">{_REQUIRED if required else "optional"}</span>'


_REQUIRED: Final = '<span class="need">required</span>'


def _fields(whole: Node, schema: Node, prefix: str = "") -> list[tuple[str, str]]:
    """One row for each member, those of nested objects after it with their path."""
    rows: list[tuple[str, str]] = []
    for name, node in schema["properties"].items():
        path = f"{prefix}{name}"
        need = _REQUIRED if name in schema.get("required", ()) else "optional"
        label = f'<code>{escape(path)}</code><span class="type">{_type(node)} · {need}</span>'
        rows.append((label, _meaning(_resolve(whole, node))))
        items = _resolve(whole, node["items"]) if "items" in node else {}
        if "properties" in items:
            rows += _fields(whole, items, f"{path}[].")
    return rows


def _type(node: Node) -> str:
    if "$ref" in node:
        name = node["$ref"].rpartition("/")[2]
        anchor = _TYPE_ANCHORS.get(name)
        return f'<a href="#{anchor}">{name}</a>' if anchor else escape(name)
    if "items" in node:
        return f"array of {_type(node['items'])}"
    if "additionalProperties" in node:
        return f"object of {_type(node['additionalProperties'])}"
    if "format" in node:
        return f"{node['type']}, {escape(node['format'])}"
    return escape(node["type"])


def _meaning(node: Node) -> str:
    return " ".join([_prose(node["description"]), *_bounds(node)])


def _bounds(node: Node) -> list[str]:
    """What a schema's keywords demand, in words."""
    said = []
    match node:
        case {"minLength": 0, "maxLength": most}:
            said.append(f"Up to {most} characters.")
        case {"minLength": least, "maxLength": most}:
            said.append(f"{least} to {most} characters.")
        case {"minItems": least, "maxItems": most}:
            said.append(f"{least} to {most} of them.")
        case {"minimum": least, "maximum": most}:
            said.append(f"{least} to {most}.")
    if node.get("pattern") == limits.TYPE_PATTERN:
        said.append(f"Pattern: <code>{escape(node['pattern'])}</code>.")
    if "enum" in node:
        said.append(f"One of {_alternatives(node['enum'])}.")
    return said


def _alternatives(values: Iterable[str]) -> str:
    return ", ".join(f"<code>{escape(value)}</code>" for value in values)


def _curl(whole: Node, path: str, method: str, body: object) -> str:
    base_url = whole["servers"][0]["url"]
    lines = [f"curl {shlex.quote(base_url + path)}", '-H "Authorization: Bearer $WEPEOPLE_API_KEY"']
    if method == "post":
        idempotency_key = whole["components"]["parameters"]["IdempotencyKey"]["example"]
        lines += [
            '-H "Content-Type: application/json"',
            f'-H "Idempotency-Key: {idempotency_key}"',
            f"-d {shlex.quote(json.dumps(body, indent=2, ensure_ascii=False))}",
        ]
    return " \\\n  ".join(lines)


# --- types, headers, limits ------------------------------------------------------------------


def _types(whole: Node) -> str:
    schemas = whole["components"]["schemas"]
    actor, category, metric = (schemas[name] for name in _TYPE_ANCHORS)
    *_, detailed = metric["oneOf"]
    return "\n".join(
        [
            '<h3 id="actor">Actor</h3>',
            _paragraphs(actor["description"]),
            _table(("Field", "Meaning"), _fields(whole, actor)),
            '<h3 id="event-category">EventCategory</h3>',
            _paragraphs(category["description"]),
            f"<p>One of {_alternatives(category['enum'])}.</p>",
            '<h3 id="metric">Metric</h3>',
            _paragraphs(metric["description"]),
            f"<p>A text has up to {limits.MAX_LABEL_CHARACTERS} characters. An object has:</p>",
            _table(("Field", "Meaning"), _fields(whole, detailed)),
        ]
    )


def _response_headers(whole: Node) -> str:
    headers: Mapping[str, Node] = whole["components"]["headers"]
    when = {
        "Retry-After": "With 429, and with 500 if the failure is one that passes.",
        "WWW-Authenticate": "With 401.",
    }
    return _table(
        ("Header", "Meaning"),
        (
            (
                f"<code>{escape(name)}</code>",
                " ".join([_prose(header["description"]), when.get(name, "")]).strip(),
            )
            for name, header in headers.items()
            if name != "Retry-After-If-Known"
        ),
    )


def _limits() -> str:
    rows = [
        ("Events per batch", f"1 to {limits.MAX_BATCH_EVENTS}"),
        ("Request body", f"{limits.MAX_BODY_BYTES:,} bytes, after decompression"),
        (
            "`metadata`, `metrics`",
            (
                f"{limits.MAX_JSON_BYTES:,} bytes each, as compact UTF-8 JSON, "
                f"at most {limits.MAX_JSON_DEPTH} levels deep"
            ),
        ),
        (
            "`eventType`, `snapshotType`",
            (
                f"{limits.MIN_TYPE_CHARACTERS} to {limits.MAX_TYPE_CHARACTERS} characters, "
                f"`{limits.TYPE_PATTERN}`"
            ),
        ),
        ("`duration`", f"whole seconds, 0 to {limits.MAX_DURATION_SECONDS}"),
        ("`externalId`, `displayName`", f"1 to {limits.MAX_NAME_CHARACTERS} characters"),
        (
            "`email`",
            f"{limits.MIN_EMAIL_CHARACTERS} to {limits.MAX_EMAIL_CHARACTERS} characters",
        ),
        ("Text and label of a metric", f"up to {limits.MAX_LABEL_CHARACTERS} characters"),
        (
            "`Idempotency-Key`",
            (
                f"1 to {limits.MAX_IDEMPOTENCY_KEY_CHARACTERS} characters, remembered for "
                f"{limits.IDEMPOTENCY_WINDOW_SECONDS // 60} minutes"
            ),
        ),
        (
            "Requests per second and key",
            f"{limits.DEFAULT_KEY_REQUESTS_PER_SECOND}, unless agreed otherwise",
        ),
        (
            "Requests per second and organization",
            f"{limits.DEFAULT_ORGANIZATION_REQUESTS_PER_SECOND}, unless agreed otherwise",
        ),
    ]
    return _table(("What", "Limit"), ((_prose(what), _prose(limit)) for what, limit in rows))


# --- errors ----------------------------------------------------------------------------------


def _entries() -> list[_Entry]:
    entries = [
        _Entry(
            code.value, HTTP_STATUS[code], known.meaning, known.remedy, known.retry, _where(code)
        )
        for code, known in CATALOGUE.items()
    ]
    return [
        *entries,
        _Entry(
            NOT_FOUND,
            HTTPStatus.NOT_FOUND,
            "There is nothing at this path.",
            f"Compare the path with those of the endpoints; all of them start with "
            f"`{PING_PATH.rpartition('/')[0]}/`.",
            Retry.NEVER,
            "Any other path.",
        ),
        _Entry(
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


def _error_example(whole: Node, base_url: str) -> str:
    shared = whole["components"]["responses"]["Unauthorized"]["content"]["application/json"]
    error = shared["examples"][ErrorCode.INVALID_KEY.value]["value"]["error"]
    body = envelope(error["code"], error["message"], error["requestId"], base_url)
    return _json_block("An error", body)


def _status_table() -> str:
    by_status: dict[int, list[str]] = {}
    for entry in _entries():
        by_status.setdefault(int(entry.status), []).append(entry.code)
    return _table(
        ("HTTP status", "Codes"),
        (
            (f"{status} {escape(HTTPStatus(status).phrase)}", _code_list(codes))
            for status, codes in sorted(by_status.items())
        ),
    )


def _error(entry: _Entry) -> str:
    facts = {
        "Status": f"{int(entry.status)} {HTTPStatus(entry.status).phrase}",
        "What to do": entry.remedy,
        "Retry": f"{entry.retry.value[0].upper()}{entry.retry.value[1:]}.",
        "Where": entry.where,
    }
    return _code_article(entry.code, entry.meaning, facts)


def _stream_end(reason: StreamReason) -> str:
    meaning, remedy = STREAM_REASONS[reason]
    return _code_article(reason.value, meaning, {"What to do": remedy})


def _code_article(code: str, meaning: str, facts: Mapping[str, str]) -> str:
    listed = "".join(f"<dt>{name}</dt><dd>{_prose(text)}</dd>" for name, text in facts.items())
    return (
        f'<article class="error" id="{escape(code)}"><h3><code>{escape(code)}</code></h3>'
        f'<p>{_prose(meaning)}</p><dl class="facts">{listed}</dl></article>'
    )
