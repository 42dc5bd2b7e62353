"""How streams end, for a client: which failures pass, and what their details say."""

from __future__ import annotations

import contextlib
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

# Statuses that opening again can cure; of the others only those that carry RetryInfo.
_PASSING: Final = frozenset(
    {
        grpc.StatusCode.OK,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.CANCELLED,  # by the server or something between
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.OUT_OF_RANGE,  # a gap: the next stream begins where the server is
    }
)
_TOO_OLD: Final = "STREAM_TOO_OLD"
_MADE_UP: Final = "Internal error from Core"
_DETAILS: Final = "grpc-status-details-bin"


class ProducerError(Exception):
    """What ends a producer. ``reason`` is the code of google.rpc.ErrorInfo, like KEY_REVOKED."""

    def __init__(self, code: grpc.StatusCode, reason: str, message: str) -> None:
        super().__init__(code, reason, message)
        self.code = code
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return f"{self.message} ({self.reason or self.code.name})"


@dataclass(frozen=True, slots=True)
class Ending:
    """How a stream ended."""

    code: grpc.StatusCode
    message: str
    reason: str = ""
    retry_after_seconds: float | None = None

    @property
    def is_grpcs_own(self) -> bool:
        """Whether grpc made it up when a write failed, before or after the server's came."""
        return self.code is grpc.StatusCode.INTERNAL and self.message == _MADE_UP

    @property
    def is_age(self) -> bool:
        """Whether nothing but its age ended the stream."""
        return self.code is grpc.StatusCode.OK or self.reason == _TOO_OLD

    @property
    def passes(self) -> bool:
        """Whether opening again can help."""
        return self.code in _PASSING or self.retry_after_seconds is not None


def ending_of(call: Any) -> Ending:
    """How a call that is done has ended.

    To be asked when the call is done, and again at its last message if the first answer
    ``is_grpcs_own``: a write that fails because the call has ended replaces the server's status,
    or comes before it (https://github.com/grpc/grpc/issues/36066).
    """
    reason, retry_after_seconds = "", None
    for name, value in _now(call.trailing_metadata()) or ():
        if name != _DETAILS:
            continue
        with contextlib.suppress(DecodeError):
            for packed in status_pb2.Status.FromString(value).details:
                if packed.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
                    info = error_details_pb2.ErrorInfo()
                    packed.Unpack(info)
                    reason = info.reason
                elif packed.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
                    retry = error_details_pb2.RetryInfo()
                    packed.Unpack(retry)
                    retry_after_seconds = retry.retry_delay.ToMicroseconds() / 1_000_000
    return Ending(_now(call.code()), _now(call.details()) or "", reason, retry_after_seconds)


def _now(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that has nothing to wait for."""
    try:
        coroutine.send(None)
    except StopIteration as finished:
        return finished.value
    coroutine.close()
    raise AssertionError("a call that is done has a status")
