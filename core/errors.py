"""The error catalogue: every code a client can meet on the ingest road, once.

Adapters map codes to their protocol (``http_api/errors.py``, ``grpc_api/errors.py``); tests prove
that each map is complete and that the documentation names the same codes.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from core.error_codes import ErrorCode, StreamReason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core.models import Budget, Rejection


INTERNAL_MESSAGE: Final = "The service failed unexpectedly. Retry with backoff."


class IngestError(Exception):
    """A request refused as a whole; the adapters turn it into their protocol's error.

    ``rejected`` is set when every item was refused on its own: the code is then the first
    item's, and nothing was written. ``transient`` tells for ``internal_error`` whether a retry
    can help (database away, draining, overloaded). ``budget`` is the key's rate budget once the
    key is known.
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


def log_internal(log: logging.Logger, error: IngestError, request_id: str) -> None:
    """Log an ``internal_error`` under the id its client was told; other errors are the client's.

    For adapters, once an answer. What caused it is named, and shown with its traceback unless it
    passes by itself.
    """
    if error.code is ErrorCode.INTERNAL_ERROR:
        cause = error.__cause__
        log.log(
            logging.WARNING if error.transient else logging.ERROR,
            "answered internal_error: %s (%s)",
            error.message,
            " ".join(str(cause or "no cause").split()),
            exc_info=None if error.transient else cause,
            extra={"request_id": request_id},
        )


class UnknownCommitStatusError(Exception):
    """The commit status of a transaction stays unknown: it must not be tried again."""


class StreamError(Exception):
    """The end of a stream for a reason without a code; every acknowledged batch is stored."""

    def __init__(self, reason: StreamReason, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.message = message


def unavailable(message: str, retry_after_seconds: float = 1.0) -> IngestError:
    """An ``internal_error`` that a retry can cure. The message is safe to show to clients."""
    return IngestError(
        ErrorCode.INTERNAL_ERROR,
        message,
        retry_after_seconds=retry_after_seconds,
        transient=True,
    )
