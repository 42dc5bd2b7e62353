"""The core's errors: they refuse a request as a whole, or end a stream.

The codes and their meaning are in core/error_codes.py.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from core.error_codes import ErrorCode, StreamReason
from core.failure_log import one_line
from core.models import Budget, Caller, Rejection

INTERNAL_MESSAGE: Final = "The service failed unexpectedly. Retry with backoff."


class IngestError(Exception):
    """A request refused as a whole; the adapters turn it into their protocol's error.

    ``rejected`` is set if every item was refused on its own. The code is then the first item's,
    and nothing was written. ``transient`` tells for ``internal_error`` whether a retry can help
    (database away, draining, overloaded). ``budget`` and ``caller``: the key's rate budget and
    whose key it is, if it was refused while it was admitted.
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        retry_after_seconds: float | None = None,
        transient: bool = False,
        rejected: Sequence[Rejection] | None = None,
        budget: Budget | None = None,
    ) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.retry_after_seconds = retry_after_seconds
        self.transient = transient
        self.rejected = rejected
        self.budget = budget
        self.caller: Caller | None = None


class StreamError(Exception):
    """Ends a stream for a reason without a code; acknowledged batches stay stored."""

    def __init__(self, reason: StreamReason, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.message = message


class UnknownCommitStatusError(Exception):
    """A transaction may or may not have taken effect, so it must not be tried again."""


def unavailable(message: str, retry_after_seconds: float = 1.0) -> IngestError:
    """An ``internal_error`` that a retry can cure. The message is safe to show to clients."""
    return IngestError(
        ErrorCode.INTERNAL_ERROR,
        message,
        retry_after_seconds=retry_after_seconds,
        transient=True,
    )


def log_internal(log: logging.Logger, error: IngestError, request_id: str) -> None:
    """Log the cause of an ``internal_error`` under the request id that its client was told.

    Adapters call it once for an answer. Errors with other codes are the client's, and are not
    logged. The traceback is left out if the error is transient.
    """
    if error.code is ErrorCode.INTERNAL_ERROR:
        cause = error.__cause__
        log.log(
            logging.WARNING if error.transient else logging.ERROR,
            "answered internal_error: %s (%s)",
            error.message,
            one_line(cause) if cause else "no cause",
            exc_info=None if error.transient else cause,
            extra={"request_id": request_id},
        )
