"""The failures of a call: programs decide by class or ``code``, messages are for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from wepeople_ingest_client.codes import Retry
from wepeople_ingest_client.rest.retries import retry_of

if TYPE_CHECKING:
    from wepeople_ingest_client.models import BatchResult


class IngestError(Exception):
    """A call that failed, although every repeat that made sense was made.

    ``retry`` says whether and when the call can succeed.

    ``idempotency_key`` is that of the call. The same call with the same key stores nothing twice
    for ten minutes from the first attempt; None for a call that stores nothing.

    ``result`` is of a list of events alone: what became of its first ``result.judged`` events. Of
    those behind, the ones in the request that failed may be stored, if an attempt of it got no
    answer, ``internal_error`` or an answer that is not the API's; the others are not.
    """

    retry: Retry
    idempotency_key: str | None = None
    result: BatchResult | None = None


class NoAnswerError(IngestError):
    """No answer came: no connection, a connection that broke, or silence until the time-out.

    The request may or may not have been carried out. The cause is the exception of httpx.
    ``retry`` is LATER, but for a failure of the client's own making, such as its certificates.
    """

    def __init__(self, message: str, retry: Retry = Retry.LATER) -> None:
        super().__init__(message, retry)
        self.message = message
        self.retry = retry

    def __str__(self) -> str:
        return self.message


class ApiError(IngestError):
    """The service, or a proxy in front of it, answered with an error.

    ``code`` and ``docs_url`` are empty if it was no answer of the API. ``retry_after_seconds`` is
    None if the answer did not tell.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        request_id: str = "",
        docs_url: str = "",
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(status, code, message, request_id, docs_url, retry_after_seconds)
        self.status = status
        self.code = code
        self.message = message
        self.request_id = request_id
        self.docs_url = docs_url
        self.retry_after_seconds = retry_after_seconds
        self.retry = retry_of(code, status)

    def __str__(self) -> str:
        facts = [self.code, f"HTTP {self.status}", self.request_id, self.docs_url]
        return f"{self.message} ({', '.join(fact for fact in facts if fact)})"


class AuthenticationError(ApiError):
    """The key is missing, unknown, revoked or expired."""


class PlanDisabledError(ApiError):
    """The organization's plan does not include the developer API."""


class QuotaExceededError(ApiError):
    """The organization's events of this calendar month are used up."""


class RateLimitedError(ApiError):
    """The rate of the key or the organization stayed used up, whatever the client waited."""


class ForbiddenEventTypeError(ApiError):
    """The event type is not on the app's whitelist."""


class InvalidRequestError(ApiError):
    """The request has not the documented form, is too large, or names nobody."""


class WorkerNotFoundError(ApiError):
    """The organization has no worker of that id."""


class InternalError(ApiError):
    """The service failed, or had no room; it stayed so, however often the client tried."""


CLASS_BY_CODE: Final[dict[str, type[ApiError]]] = {
    "missing_authorization": AuthenticationError,
    "invalid_key": AuthenticationError,
    "key_revoked": AuthenticationError,
    "key_expired": AuthenticationError,
    "plan_disabled": PlanDisabledError,
    "quota_exceeded": QuotaExceededError,
    "rate_limited": RateLimitedError,
    "forbidden_event_type": ForbiddenEventTypeError,
    "invalid_body": InvalidRequestError,
    "batch_too_large": InvalidRequestError,
    "missing_actor": InvalidRequestError,
    "worker_not_found": WorkerNotFoundError,
    "internal_error": InternalError,
}
