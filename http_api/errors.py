"""The errors of the core in HTTP: the status of each code, and the envelope of every error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec

from core.error_codes import ErrorCode, docs_url
from core.errors import IngestError
from core.limits import MAX_BATCH_EVENTS, MAX_BODY_BYTES
from core.models import Rejection

HTTP_STATUS: Final[dict[ErrorCode, int]] = {
    ErrorCode.MISSING_AUTHORIZATION: HTTPStatus.UNAUTHORIZED,
    ErrorCode.INVALID_KEY: HTTPStatus.UNAUTHORIZED,
    ErrorCode.KEY_REVOKED: HTTPStatus.UNAUTHORIZED,
    ErrorCode.KEY_EXPIRED: HTTPStatus.UNAUTHORIZED,
    ErrorCode.PLAN_DISABLED: HTTPStatus.PAYMENT_REQUIRED,
    ErrorCode.QUOTA_EXCEEDED: HTTPStatus.PAYMENT_REQUIRED,
    ErrorCode.RATE_LIMITED: HTTPStatus.TOO_MANY_REQUESTS,
    ErrorCode.FORBIDDEN_EVENT_TYPE: HTTPStatus.FORBIDDEN,
    ErrorCode.INVALID_BODY: HTTPStatus.BAD_REQUEST,
    ErrorCode.BATCH_TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    ErrorCode.MISSING_ACTOR: HTTPStatus.BAD_REQUEST,
    ErrorCode.WORKER_NOT_FOUND: HTTPStatus.NOT_FOUND,
    ErrorCode.INTERNAL_ERROR: HTTPStatus.INTERNAL_SERVER_ERROR,
}

# Codes of the HTTP API itself, for other paths and methods than those of the endpoints.
NOT_FOUND: Final = "not_found"
METHOD_NOT_ALLOWED: Final = "method_not_allowed"


def body_too_large() -> IngestError:
    """Return the error of a body over the limit: a 413."""
    return IngestError(
        ErrorCode.BATCH_TOO_LARGE,
        f"The body is over {MAX_BODY_BYTES} bytes after decompression; send smaller batches.",
    )


def rejected_members(rejected: Sequence[Rejection]) -> list[dict[str, Any]]:
    """Return ``results.rejected`` as it stands on the wire."""
    return [
        {"index": one.index, "code": one.code.value, "message": one.message} for one in rejected
    ]


def envelope(code: str, message: str, request_id: str, base_url: str) -> dict[str, Any]:
    """Return the body of an error (contract section 3), without the outcome of each event."""
    return {
        "error": {
            "code": code,
            "message": message,
            "requestId": request_id,
            "docsUrl": docs_url(base_url, code),
        }
    }


def render_error(
    error: IngestError, request_id: str, base_url: str
) -> tuple[int, bytes, dict[str, str]]:
    """Return the status, the body as JSON, and the headers that belong to this error alone.

    The body of a refused batch also has the outcome of each event (contract section 5).
    ``Retry-After`` is in whole seconds, rounded up and at least 1.
    """
    body = envelope(error.code.value, error.message, request_id, base_url)
    if error.rejected is not None:
        body |= {
            "accepted": 0,
            "rejected": len(error.rejected),
            "batchLimit": MAX_BATCH_EVENTS,
            "results": {"accepted": [], "rejected": rejected_members(error.rejected)},
        }
    status = HTTP_STATUS[error.code]
    headers = {}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_seconds)))
    return status, msgspec.json.encode(body), headers
