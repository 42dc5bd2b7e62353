"""The status that a stream ended with: whether it passes, and what its details say."""

from __future__ import annotations

import contextlib
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError

from wepeople_ingest_client.pb import status_details_pb2 as pb

# Opening another stream can cure these. Of the other codes, only one with RetryInfo passes.
_PASSING: Final = frozenset(
    {
        grpc.StatusCode.OK,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.CANCELLED,  # by the server or a proxy
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.OUT_OF_RANGE,  # a gap: the next stream begins where the server is
    }
)
_TOO_OLD: Final = "STREAM_TOO_OLD"
TLS_FAILED: Final = "TLS_FAILED"
_LOCAL_MESSAGE: Final = "Internal error from Core"
_DETAILS: Final = "grpc-status-details-bin"


class ProducerError(Exception):
    """A failure that ends a producer.

    ``reason`` is that of google.rpc.ErrorInfo, such as ``KEY_REVOKED``, or one of the producer's
    own: ``SEQUENCE_LOST``, ``TLS_FAILED``. It may be empty.
    """

    def __init__(self, code: grpc.StatusCode, reason: str, message: str) -> None:
        super().__init__(code, reason, message)
        self.code = code
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return f"{self.message} ({self.reason or self.code.name})"


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """The status of a stream that has ended, with the parts of its details a producer needs."""

    code: grpc.StatusCode
    message: str
    reason: str = ""
    retry_after_seconds: float | None = None

    @property
    def is_local(self) -> bool:
        """Whether the gRPC library made this status because a write failed."""
        return self.code is grpc.StatusCode.INTERNAL and self.message == _LOCAL_MESSAGE

    @property
    def is_age(self) -> bool:
        """Whether the stream ended for its age alone."""
        return self.code is grpc.StatusCode.OK or self.reason == _TOO_OLD

    @property
    def is_passing(self) -> bool:
        """Whether opening another stream can help."""
        if self.reason == TLS_FAILED:
            return False
        return self.code in _PASSING or self.retry_after_seconds is not None


def stream_status(call: Any) -> StreamStatus:
    """The status of a call that is done.

    A write that fails because the call has ended makes the library report a status of its own,
    before the server's or in its place (https://github.com/grpc/grpc/issues/36066). If the answer
    ``is_local``, ask again once the last message has been read.
    """
    reason, retry_after_seconds = "", None
    for name, value in _result(call.trailing_metadata()) or ():
        if name != _DETAILS:
            continue
        with contextlib.suppress(DecodeError):
            for packed in pb.Status.FromString(value).details:
                match packed.TypeName():
                    case "google.rpc.ErrorInfo":
                        reason = pb.ErrorInfo.FromString(packed.value).reason
                    case "google.rpc.RetryInfo":
                        delay = pb.RetryInfo.FromString(packed.value).retry_delay
                        retry_after_seconds = delay.ToMicroseconds() / 1_000_000
    code, message = _result(call.code()), _result(call.details()) or ""
    return StreamStatus(code, message, reason, retry_after_seconds)


def _result(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that does not wait, as those of a call that is done."""
    try:
        coroutine.send(None)
    except StopIteration as finished:
        return finished.value
    coroutine.close()
    raise AssertionError("a call that is done has a status")
