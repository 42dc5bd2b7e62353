"""Answers to requests that were not written: too late, or for an error that is not the client's."""

from __future__ import annotations

from collections.abc import Iterable

from core.access.shared_budget import overloaded
from core.error_codes import ErrorCode
from core.errors import IngestError, UnknownCommitStatusError, unavailable
from core.journal.lock_waits import still_locked
from core.journal.pending import PendingRequest
from core.postgres.errors import is_temporary, temporary_failure


def too_late(request: PendingRequest) -> IngestError:
    """The answer to a request whose time is over."""
    if request.is_being_written:
        # A retry with the same key, or the next stream, learns the outcome.
        return answer_to(UnknownCommitStatusError("no answer in time"))
    return overloaded() if request.lock_wait is None else still_locked(request)


def fail(requests: Iterable[PendingRequest], error: Exception) -> None:
    """Answer the requests that have no answer yet with an error, each with one of its own."""
    # The adapters log the answer of each client, with its request id and this cause.
    for request in requests:
        if not request.answer.done():
            request.answer.set_exception(answer_to(error))


def answer_to(error: Exception) -> IngestError:
    """The answer to a client for an error that is not its own; the error is its cause."""
    if isinstance(error, IngestError):
        return error
    if isinstance(error, UnknownCommitStatusError):
        answer = unavailable(
            "The service lost its storage while writing: this may or may not be stored. Retry with "
            "the same Idempotency-Key; a producer opens its stream again, which tells how far it "
            "has come."
        )
    elif is_temporary(error):
        answer = temporary_failure(error)
    else:
        answer = IngestError(
            ErrorCode.INTERNAL_ERROR,
            "The service failed unexpectedly. Nothing was written. Retry with backoff.",
        )
    answer.__cause__ = error
    return answer
