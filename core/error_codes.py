"""The error catalogue: every code and stream reason a client can meet, with its documentation.

Adapters map codes to their protocol (``http_api/errors.py``, ``grpc_api/errors.py``). Tests prove
that each map is complete and that the documentation names the same codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final

from core.limits import (
    MAX_APP_PRODUCERS,
    MAX_BATCH_EVENTS,
    MAX_BODY_BYTES,
    PRODUCER_UNUSED_DAYS,
)


class ErrorCode(StrEnum):
    """The thirteen codes of the reference page. Clients depend on them; they never change."""

    MISSING_AUTHORIZATION = "missing_authorization"
    INVALID_KEY = "invalid_key"
    KEY_REVOKED = "key_revoked"
    KEY_EXPIRED = "key_expired"
    PLAN_DISABLED = "plan_disabled"
    QUOTA_EXCEEDED = "quota_exceeded"
    RATE_LIMITED = "rate_limited"
    FORBIDDEN_EVENT_TYPE = "forbidden_event_type"
    INVALID_BODY = "invalid_body"
    BATCH_TOO_LARGE = "batch_too_large"
    MISSING_ACTOR = "missing_actor"
    WORKER_NOT_FOUND = "worker_not_found"
    INTERNAL_ERROR = "internal_error"


# Of callers with nobody's key, or with none.
STRANGERS_CODES: Final = frozenset({ErrorCode.MISSING_AUTHORIZATION, ErrorCode.INVALID_KEY})


class StreamReason(StrEnum):
    """The reasons for the end of a stream that have no code in the catalogue."""

    SEQUENCE_GAP = "sequence_gap"
    PRODUCER_TAKEN_OVER = "producer_taken_over"
    STREAM_TOO_OLD = "stream_too_old"
    PRODUCER_LIMIT = "producer_limit"


class OperatorCode(StrEnum):
    """The codes of the management API and the console (docs/contract.md, section 14)."""

    MISSING_TOKEN = "missing_token"  # noqa: S105 -- a code
    INVALID_TOKEN = "invalid_token"  # noqa: S105 -- a code
    READ_ONLY = "read_only"
    FORBIDDEN_ORIGIN = "forbidden_origin"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    CONFLICT = "conflict"
    INVALID_VALUE = "invalid_value"
    BODY_TOO_LARGE = "body_too_large"
    TOO_MANY_ATTEMPTS = "too_many_attempts"
    UNAVAILABLE = "unavailable"
    INTERNAL_ERROR = "internal_error"


class Retry(Enum):
    """Whether and when a client should send a request again that got the code."""

    NEVER = "fix the request first"
    AFTER_CHANGE = "retry after an administrator changed the key, plan, quota or whitelist"
    LATER = "retry with backoff; the same Idempotency-Key makes it safe"


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """The documentation of a code: its meaning, its remedy and whether a retry can help."""

    meaning: str
    remedy: str
    retry: Retry


CATALOGUE: Final[dict[ErrorCode, CatalogueEntry]] = {
    ErrorCode.MISSING_AUTHORIZATION: CatalogueEntry(
        "The request carries no Authorization header.",
        "Send `Authorization: Bearer wp_live_…` with every request.",
        Retry.NEVER,
    ),
    ErrorCode.INVALID_KEY: CatalogueEntry(
        "The credential is not a bearer token of the right shape, or no such key exists.",
        "Check that the whole key was copied: `wp_live_` and 32 lower-case hex digits.",
        Retry.NEVER,
    ),
    ErrorCode.KEY_REVOKED: CatalogueEntry(
        "The key was revoked by an administrator of the organization.",
        "Create a new key and replace the old one in your integration.",
        Retry.AFTER_CHANGE,
    ),
    ErrorCode.KEY_EXPIRED: CatalogueEntry(
        "The key's expiry time has passed.",
        "Create a new key; keys with an expiry need a planned rotation.",
        Retry.AFTER_CHANGE,
    ),
    ErrorCode.PLAN_DISABLED: CatalogueEntry(
        "The organization's plan does not include the developer API.",
        "Enable the developer API on the plan; the same key works again within a second.",
        Retry.AFTER_CHANGE,
    ),
    ErrorCode.QUOTA_EXCEEDED: CatalogueEntry(
        "The organization has used up its events for this calendar month (UTC).",
        "Raise the quota or wait for the first of the month; nothing rejected was charged.",
        Retry.AFTER_CHANGE,
    ),
    ErrorCode.RATE_LIMITED: CatalogueEntry(
        "The key's or the organization's request rate is used up; the message says whose.",
        f"Wait for the time in Retry-After. Batch: {MAX_BATCH_EVENTS} events cost one request.",
        Retry.LATER,
    ),
    ErrorCode.FORBIDDEN_EVENT_TYPE: CatalogueEntry(
        "The event type is not on the app's whitelist.",
        "Ask an administrator to allow the type for this app, or correct its spelling.",
        Retry.AFTER_CHANGE,
    ),
    ErrorCode.INVALID_BODY: CatalogueEntry(
        "The request, or this item of it, does not have the documented form.",
        "Read the message: it names each field and what is wrong with it.",
        Retry.NEVER,
    ),
    ErrorCode.BATCH_TOO_LARGE: CatalogueEntry(
        f"The body is over {MAX_BODY_BYTES:,} bytes after decompression, "
        f"or holds over {MAX_BATCH_EVENTS} events.",
        "Send the events in several smaller batches.",
        Retry.NEVER,
    ),
    ErrorCode.MISSING_ACTOR: CatalogueEntry(
        "The actor names nobody: it has no workerId, no externalId and no email.",
        "Give at least one of the three.",
        Retry.NEVER,
    ),
    ErrorCode.WORKER_NOT_FOUND: CatalogueEntry(
        "No worker of this organization has that workerId.",
        "Use an id of your own organization, or send externalId or email instead.",
        Retry.NEVER,
    ),
    ErrorCode.INTERNAL_ERROR: CatalogueEntry(
        "The service failed unexpectedly. Unless the message says otherwise, nothing was written.",
        "Retry with exponential backoff and the same Idempotency-Key.",
        Retry.LATER,
    ),
}

STREAM_REASONS: Final[dict[StreamReason, tuple[str, str]]] = {  # meaning, remedy
    StreamReason.SEQUENCE_GAP: (
        "The batch's sequence is not the one after the last that was committed.",
        "Open the stream again and go on after the sequence that its first answer tells.",
    ),
    StreamReason.PRODUCER_TAKEN_OVER: (
        "Another stream was opened in the name of the same producer; this one can write no more.",
        "See that only one process uses a producer id. The newer stream goes on.",
    ),
    StreamReason.STREAM_TOO_OLD: (
        "The stream has reached the greatest age a stream may have.",
        "Open another and go on after the last batch that was acknowledged.",
    ),
    StreamReason.PRODUCER_LIMIT: (
        f"The app has {MAX_APP_PRODUCERS:,} producers, and the stream was to open another one.",
        f"Use the same ids after a restart. {PRODUCER_UNUSED_DAYS} days without use free an id.",
    ),
}

OPERATOR_ERRORS: Final[dict[OperatorCode, tuple[str, str]]] = {  # meaning, remedy
    OperatorCode.MISSING_TOKEN: (
        "The request carries no operator token.",
        "Send `Authorization: Bearer wp_ops_…` with every request.",
    ),
    OperatorCode.INVALID_TOKEN: (
        "No operator has the token, or it was revoked or has expired.",
        "Make an operator: `wepeople-ingest operator create NAME --scope read`.",
    ),
    OperatorCode.READ_ONLY: (
        "The token's scope is `read`, and the request changes something.",
        "Use the token of an operator with the scope `write`.",
    ),
    OperatorCode.FORBIDDEN_ORIGIN: (
        "A form of the console did not come from a page of the same session.",
        "Open the console again and repeat the step there.",
    ),
    OperatorCode.NOT_FOUND: (
        "Nothing has the id, or there is nothing at the path.",
        "List what there is, and use its ids: names are none.",
    ),
    OperatorCode.METHOD_NOT_ALLOWED: (
        "The path exists, but not with this method.",
        "Use one of the methods that the message names.",
    ),
    OperatorCode.CONFLICT: (
        "The name is taken, or the request does not fit what is there.",
        "Read the message; look at what is there before another try.",
    ),
    OperatorCode.INVALID_VALUE: (
        "The body or a parameter breaks a rule.",
        "Read the message: it names the member and what is wrong with it.",
    ),
    OperatorCode.BODY_TOO_LARGE: (
        "The body is over 64 KiB.",
        "Send less at once: no request needs that much.",
    ),
    OperatorCode.TOO_MANY_ATTEMPTS: (
        "This address has tried too many tokens that nobody has.",
        "Wait for the time in Retry-After, and correct the token.",
    ),
    OperatorCode.UNAVAILABLE: (
        "The database, or the cell of the organization, does not answer now.",
        "Retry after the time in Retry-After; ask for less if it took too long.",
    ),
    OperatorCode.INTERNAL_ERROR: (
        "The service failed unexpectedly; its log has the reason under the request id.",
        "Look whether the change was made before another try.",
    ),
}

# The path of the reference page. Its sections are named after the codes.
REFERENCE_PATH: Final = "/developers/reference"


def docs_url(base_url: str, code: str) -> str:
    """The URL of the reference page's section about a code."""
    return f"{base_url}{REFERENCE_PATH}#{code}"
