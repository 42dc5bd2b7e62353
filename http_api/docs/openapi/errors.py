"""Which codes answer which operation, and the responses that carry them."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

from core import limits
from core.error_codes import CATALOGUE, ErrorCode
from core.errors import INTERNAL_MESSAGE
from core.journal.pending import QUOTA_MESSAGE, UNKNOWN_WORKER_MESSAGE
from core.rules.fields import NO_ACTOR
from http_api.docs.openapi.headers import EVERY_HEADER, KEY_HEADERS, header_refs
from http_api.docs.openapi.nodes import REQUEST_ID, Node, schema_ref
from http_api.errors import HTTP_STATUS, envelope

_ADMISSION: Final = (
    ErrorCode.MISSING_AUTHORIZATION,
    ErrorCode.INVALID_KEY,
    ErrorCode.KEY_REVOKED,
    ErrorCode.KEY_EXPIRED,
    ErrorCode.PLAN_DISABLED,
    ErrorCode.RATE_LIMITED,
)
# What can be wrong with one event while its neighbours are fine, in the order of the checks.
EVENT_CODES: Final = (
    ErrorCode.INVALID_BODY,
    ErrorCode.MISSING_ACTOR,
    ErrorCode.FORBIDDEN_EVENT_TYPE,
    ErrorCode.WORKER_NOT_FOUND,
    ErrorCode.QUOTA_EXCEEDED,
)
# A snapshot needs no whitelisting.
_SNAPSHOT_CODES: Final = tuple(
    code for code in EVENT_CODES if code is not ErrorCode.FORBIDDEN_EVENT_TYPE
)
# Every code that can answer an operation as a whole.
OPERATION_CODES: Final[dict[str, tuple[ErrorCode, ...]]] = {
    "ping": (*_ADMISSION, ErrorCode.INTERNAL_ERROR),
    "ingestEvents": (
        *_ADMISSION,
        ErrorCode.BATCH_TOO_LARGE,
        *EVENT_CODES,
        ErrorCode.INTERNAL_ERROR,
    ),
    "ingestSnapshot": (
        *_ADMISSION,
        ErrorCode.BATCH_TOO_LARGE,
        *_SNAPSHOT_CODES,
        ErrorCode.INTERNAL_ERROR,
    ),
}
# Error responses that are the same wherever they occur.
_SHARED_RESPONSES: Final[dict[int, str]] = {
    HTTPStatus.UNAUTHORIZED: "Unauthorized",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "TooLarge",
    HTTPStatus.TOO_MANY_REQUESTS: "RateLimited",
    HTTPStatus.INTERNAL_SERVER_ERROR: "InternalError",
}


def shared_responses(server_url: str) -> Node:
    """The error responses that are the same wherever they occur, by name."""
    return {
        name: _error_response(
            status, [code for code in ErrorCode if HTTP_STATUS[code] == status], server_url
        )
        for status, name in _SHARED_RESPONSES.items()
    }


def error_responses(operation: str, server_url: str) -> Node:
    """The error responses of an operation by status."""
    by_status: dict[int, list[ErrorCode]] = {}
    for code in ErrorCode:
        if code in OPERATION_CODES[operation]:
            by_status.setdefault(HTTP_STATUS[code], []).append(code)
    return {
        f"{int(status)}": {"$ref": f"#/components/responses/{_SHARED_RESPONSES[status]}"}
        if status in _SHARED_RESPONSES
        else _error_response(status, by_status[status], server_url, operation)
        for status in sorted(by_status)
    }


def _error_response(
    status: int, codes: Sequence[ErrorCode], server_url: str, operation: str = ""
) -> Node:
    batch = operation == "ingestEvents"
    examples: Node = {}
    for code in codes:
        body = envelope(code.value, _message(code, operation), REQUEST_ID, server_url)
        if batch and code in EVENT_CODES:
            if code is ErrorCode.INVALID_BODY:
                whole = "events: must hold at least one event"
                examples["invalid_body_of_request"] = {
                    "summary": "The request as a whole has not the documented form.",
                    "value": envelope(code.value, whole, REQUEST_ID, server_url),
                }
            body |= _refused(code, body["error"]["message"])
        examples[code.value] = {"summary": CATALOGUE[code].meaning, "value": body}
    headers = header_refs((*EVERY_HEADER, *KEY_HEADERS))
    if status == HTTPStatus.UNAUTHORIZED:
        headers = header_refs((*EVERY_HEADER, "WWW-Authenticate"))
    elif status == HTTPStatus.TOO_MANY_REQUESTS:
        headers |= header_refs(["Retry-After"])
    elif status == HTTPStatus.INTERNAL_SERVER_ERROR:
        headers["Retry-After"] = {"$ref": "#/components/headers/Retry-After-If-Known"}
    error, refused = schema_ref("Error"), schema_ref("RefusedBatch")
    schema = {"anyOf": [refused, error]} if batch and set(codes) & set(EVENT_CODES) else error
    return {
        "description": "\n".join(f"- `{code.value}`: {CATALOGUE[code].meaning}" for code in codes),
        "headers": headers,
        "content": {"application/json": {"schema": schema, "examples": examples}},
    }


def _refused(code: ErrorCode, message: str) -> Node:
    return {
        "accepted": 0,
        "rejected": 1,
        "batchLimit": limits.MAX_BATCH_EVENTS,
        "results": {
            "accepted": [],
            "rejected": [{"index": 0, "code": code.value, "message": message}],
        },
    }


def _message(code: ErrorCode, operation: str) -> str:
    """What an error of this kind may say."""
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
        ErrorCode.WORKER_NOT_FOUND: (f"{path}actor.workerId: {UNKNOWN_WORKER_MESSAGE}"),
        ErrorCode.INTERNAL_ERROR: INTERNAL_MESSAGE,
    }[code]
