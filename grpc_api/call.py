"""One gRPC call: its credential, its request id, its request, and how it fails."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from grpc_status import rpc_status

from core import ids
from core.clock import Clock
from core.error_codes import ErrorCode
from core.errors import INTERNAL_MESSAGE, IngestError, StreamError, log_internal
from core.limits import MAX_BODY_BYTES
from core.models import Caller
from grpc_api.errors import Errors, Failure

log = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
M = TypeVar("M", bound=Message)


class Call:
    """What a servicer knows of the call it serves."""

    def __init__(self, context: Context, errors: Errors, clock: Clock) -> None:
        self.context = context
        self.clock = clock
        self.request_id = ids.new_request_id(clock.now_us())
        self.authorization = _authorization(context)
        self.caller: Caller | None = None
        self.code: str | None = None  # of the error that ends it
        self._errors = errors

    async def begin(self) -> None:
        """Tell the client the request id, whatever becomes of the call."""
        await self.context.send_initial_metadata((("x-request-id", self.request_id),))

    async def fail(self, error: Exception) -> NoReturn:
        """End the call with the error's status and details."""
        raised = error
        if not isinstance(error, Failure):
            log.error("crashed", exc_info=error, extra={"request_id": self.request_id})
            error = IngestError(ErrorCode.INTERNAL_ERROR, INTERNAL_MESSAGE)
        if isinstance(error, IngestError):
            log_internal(log, error, self.request_id)
            self.code = error.code
        elif isinstance(error, StreamError):
            self.code = error.reason
        subject = self.caller and ids.text(ids.ORGANIZATION, self.caller.organization_id)
        status = self._errors.of(error, self.request_id, subject or "")
        # grpc's abort and its call know each other, and it knows the error: what that has passed,
        # whole messages, would stay in memory until the garbage collector looks.
        raised.__traceback__ = raised.__cause__ = raised.__context__ = None
        await self.context.abort_with_status(rpc_status.to_status(status))
        raise AssertionError("unreachable")


def _authorization(context: Context) -> str | None:
    metadata = context.invocation_metadata() or ()
    values = [str(value) for name, value in metadata if name == "authorization"]
    # Two credentials are none: whichever we took, the client may have meant the other.
    return ", ".join(values) if values else None


def parsed(message_type: type[M]) -> Callable[[bytes], M | IngestError]:
    """A deserializer that returns what is wrong instead of failing without details."""

    def parse(data: bytes) -> M | IngestError:
        if len(data) > MAX_BODY_BYTES:
            return IngestError(
                ErrorCode.BATCH_TOO_LARGE,
                f"The message is over {MAX_BODY_BYTES} bytes; send smaller batches.",
            )
        try:
            return message_type.FromString(data)
        except DecodeError as error:
            return IngestError(ErrorCode.INVALID_BODY, f"The message cannot be parsed: {error}")

    return parse
