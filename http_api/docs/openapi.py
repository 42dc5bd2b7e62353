"""The OpenAPI document of the REST API, as YAML and as JSON.

It is OpenAPI 3.1, and uses of it what 3.0 has, too, because generators of clients make working code
of that; tests/generators proves it.

The document is the template beside this file. Numbers come from core/limits.py, codes and their
meaning from core/error_codes.py, statuses from http_api/errors.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from http import HTTPStatus
from typing import Any, Final

import jinja2
import msgspec
import yaml

from core import limits
from core.access.api_keys import KEY_PREFIX, KEY_RANDOM_BYTES
from core.error_codes import CATALOGUE, REFERENCE_PATH, ErrorCode
from core.errors import INTERNAL_MESSAGE
from core.journal.pending import QUOTA_MESSAGE, UNKNOWN_WORKER_MESSAGE
from core.rules.fields import NO_ACTOR
from http_api.errors import HTTP_STATUS, envelope
from http_api.paths import EVENTS_PATH, PING_PATH, SNAPSHOTS_PATH

REQUEST_ID: Final = "req_01KN7M3Q8ZC4T9W2E6XHRB5VYD"  # of the examples

Node = dict[str, Any]

# libyaml's, which PyYAML's wheels have in them, takes a tenth of the time.
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_ADMISSION: Final = (
    ErrorCode.MISSING_AUTHORIZATION,
    ErrorCode.INVALID_KEY,
    ErrorCode.KEY_REVOKED,
    ErrorCode.KEY_EXPIRED,
    ErrorCode.PLAN_DISABLED,
    ErrorCode.RATE_LIMITED,
)
# The codes of one event while its neighbours are fine, in the order of the checks.
EVENT_CODES: Final = (
    ErrorCode.INVALID_BODY,
    ErrorCode.MISSING_ACTOR,
    ErrorCode.FORBIDDEN_EVENT_TYPE,
    ErrorCode.WORKER_NOT_FOUND,
    ErrorCode.QUOTA_EXCEEDED,
)
_DATA: Final = (*_ADMISSION, ErrorCode.BATCH_TOO_LARGE, *EVENT_CODES, ErrorCode.INTERNAL_ERROR)
# Every code that can answer an operation as a whole. A snapshot needs no whitelisting.
OPERATION_CODES: Final[dict[str, tuple[ErrorCode, ...]]] = {
    "ping": (*_ADMISSION, ErrorCode.INTERNAL_ERROR),
    "ingestEvents": _DATA,
    "ingestSnapshot": tuple(code for code in _DATA if code != ErrorCode.FORBIDDEN_EVENT_TYPE),
}
# Error responses that are the same wherever they occur.
SHARED_RESPONSES: Final[dict[int, str]] = {
    HTTPStatus.UNAUTHORIZED.value: "Unauthorized",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE.value: "PayloadTooLarge",
    HTTPStatus.TOO_MANY_REQUESTS.value: "TooManyRequests",
    HTTPStatus.INTERNAL_SERVER_ERROR.value: "InternalServerError",
}
# How the names begin of those that are an operation's own.
_RESPONSES_OF: Final = {"ping": "Ping", "ingestEvents": "Events", "ingestSnapshot": "Snapshot"}


def document(server_url: str) -> Node:
    """The document as objects; ``server_url``: where clients reach this service."""
    parsed: Node = yaml.load(_text(server_url), Loader=_LOADER)  # noqa: S506 - either is safe
    return parsed


@cache
def render(server_url: str) -> bytes:
    """The document as YAML, made once for each server."""
    return _text(server_url).encode()


def render_json(server_url: str) -> bytes:
    """The document as JSON."""
    return msgspec.json.encode(document(server_url))


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("http_api.docs", ""),
        autoescape=False,  # noqa: S701 - YAML; every value is the project's own
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters["tojson"] = _to_json
    return environment.get_template("openapi.yaml.jinja")


def _text(server_url: str) -> str:
    return _template().render(
        server_url=server_url,
        reference_path=REFERENCE_PATH,
        ping_path=PING_PATH,
        events_path=EVENTS_PATH,
        snapshots_path=SNAPSHOTS_PATH,
        key_format=f"{KEY_PREFIX} and {2 * KEY_RANDOM_BYTES} lower-case hex digits",
        limits=limits,
        codes=list(ErrorCode),
        event_codes=EVENT_CODES,
        catalogue=CATALOGUE,
        http_status=HTTP_STATUS,
        shared_responses=SHARED_RESPONSES,
        operations=list(OPERATION_CODES),
        codes_by_status=_codes_by_status,
        response_name=_response_name,
        codes_of_status=lambda status: [code for code in ErrorCode if HTTP_STATUS[code] == status],
        descriptions=lambda codes: "\n".join(
            f"- `{code.value}`: {CATALOGUE[code].meaning}" for code in codes
        ),
        error_examples=lambda codes, operation: _error_examples(codes, operation, server_url),
    )


def _to_json(value: object) -> str:
    """JSON, which is YAML as well; Jinja2's own filter escapes for HTML."""
    return msgspec.json.encode(value).decode()


def _codes_by_status(operation: str) -> list[tuple[int, list[ErrorCode]]]:
    by_status: dict[int, list[ErrorCode]] = {}
    for code in ErrorCode:
        if code in OPERATION_CODES[operation]:
            by_status.setdefault(int(HTTP_STATUS[code]), []).append(code)
    return sorted(by_status.items())


def _response_name(operation: str, status: int) -> str:
    """The name of an error response among the components."""
    own = _RESPONSES_OF[operation] + HTTPStatus(status).phrase.replace(" ", "")
    return SHARED_RESPONSES.get(status, own)


def _error_examples(
    codes: Sequence[ErrorCode], operation: str, server_url: str
) -> Iterator[tuple[str, str, Node]]:
    """The name, summary and body of an example for each code."""
    for code in codes:
        message = _message(code, operation)
        body = envelope(code.value, message, REQUEST_ID, server_url)
        if operation == "ingestEvents" and code in EVENT_CODES:
            if code is ErrorCode.INVALID_BODY:
                whole = "events: must hold at least one event"
                yield (
                    "invalid_body_of_request",
                    "The request as a whole has not the documented form.",
                    envelope(code.value, whole, REQUEST_ID, server_url),
                )
            rejected = {"index": 0, "code": code.value, "message": message}
            body |= {
                "accepted": 0,
                "rejected": 1,
                "batchLimit": limits.MAX_BATCH_EVENTS,
                "results": {"accepted": [], "rejected": [rejected]},
            }
        yield code.value, CATALOGUE[code].meaning, body


def _message(code: ErrorCode, operation: str) -> str:
    """An example of an error's message."""
    path = "events[0]." if operation == "ingestEvents" else ""
    wrong = (
        f"duration: must be at most {limits.MAX_DURATION_SECONDS}"
        if path
        else f"metrics.csat.unit: must be one of {', '.join(limits.METRIC_UNITS)}"
    )
    rate = limits.DEFAULT_KEY_REQUESTS_PER_SECOND
    return {
        ErrorCode.MISSING_AUTHORIZATION: "Send your API key in the Authorization header.",
        ErrorCode.INVALID_KEY: "There is no such API key.",
        ErrorCode.KEY_REVOKED: "This API key was revoked.",
        ErrorCode.KEY_EXPIRED: "This API key has expired.",
        ErrorCode.PLAN_DISABLED: "The organization's plan does not include the developer API.",
        ErrorCode.QUOTA_EXCEEDED: f"{path.replace('.', ': ')}{QUOTA_MESSAGE}",
        ErrorCode.RATE_LIMITED: f"The key's rate limit of {rate} requests per second is exceeded.",
        ErrorCode.FORBIDDEN_EVENT_TYPE: (
            f"{path}eventType: 'deploy.shipped' is not whitelisted for this app"
        ),
        ErrorCode.INVALID_BODY: f"{path}{wrong}",
        ErrorCode.BATCH_TOO_LARGE: (
            f"events: {limits.MAX_BATCH_EVENTS + 1} are too many for one batch; "
            f"send at most {limits.MAX_BATCH_EVENTS}"
        ),
        ErrorCode.MISSING_ACTOR: f"{path}{NO_ACTOR}",
        ErrorCode.WORKER_NOT_FOUND: f"{path}actor.workerId: {UNKNOWN_WORKER_MESSAGE}",
        ErrorCode.INTERNAL_ERROR: INTERNAL_MESSAGE,
    }[code]
