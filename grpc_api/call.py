"""One gRPC call: its credential, its request id, its request, and how it fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final, NamedTuple, NoReturn, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from grpc_status import rpc_status

from core import ids
from core.clock import Clock
from core.counters import OK
from core.error_codes import STRANGERS_CODES, ErrorCode
from core.errors import INTERNAL_MESSAGE, IngestError, StreamError, log_internal
from core.limits import MAX_BODY_BYTES
from core.models import Caller
from core.refusal_log import RefusedRequest
from core.slices import InTurns, Sliced
from core.tracing import Span, request_attributes
from grpc_api.accepting import Context, Metadata
from grpc_api.connections import Connections
from grpc_api.convert import MIN_SLICED_BYTES
from grpc_api.errors import CallError, StatusRenderer, status_of

log = logging.getLogger(__name__)

# A message over MAX_BODY_BYTES is answered with details by us; one over this limit, by the library
# without details (docs/contract.md section 10).
MAX_RECEIVE_BYTES: Final = MAX_BODY_BYTES * 5 // 4
# That the library takes of a message before anybody reads it, also of calls that will be refused.
# More spares larger messages a round trip, but a connection can have 200 such calls.
LOOKAHEAD_BYTES: Final = 16_384

MAX_STATUS_SECONDS: Final = 5.0  # for the status of a call that fails to be sent

Request = TypeVar("Request", bound=Message)


class Call:
    """A call while it is served. ``caller`` and ``code`` are None until they are known."""

    def __init__(
        self, context: Context, renderer: StatusRenderer, clock: Clock, connections: Connections
    ) -> None:
        self.context = context
        self.clock = clock
        self.request_id = ids.new_request_id(clock.now_us())
        self.authorization = authorization_of(context)
        self.caller: Caller | None = None
        self.code: str | None = None  # of the error that ended it
        self.events: int | None = None  # in the batch of a unary call, once it is read
        self._began_at = clock.monotonic()
        self.message_bytes = 0  # of the message that was parsed last
        self._renderer = renderer
        self._connections = connections
        self._has_sent_id = False
        self._status_code: int | None = None  # of the error that ended it
        self.span: Span | None = None  # if traces are on

    def admit(self, caller: Caller) -> None:
        """Note whose call it is; the key may be used."""
        self.caller = caller
        self._connections.note_known(self.context.peer())

    def refused(self, endpoint: str, error: IngestError) -> RefusedRequest:
        """What is known of the call, for the log, once it is refused."""
        milliseconds = round((self.clock.monotonic() - self._began_at) * 1_000, 3)
        status = status_of(error).name
        return RefusedRequest(self.request_id, "grpc", endpoint, status, self.events, milliseconds)

    def end_span(self, code: str) -> None:
        """End the span of the call, if there is one; ``code`` is that of the metrics."""
        if self.span is None:
            return
        attributes = request_attributes(self.request_id, self.caller, self.events)
        status = (grpc.StatusCode.OK if code == OK else grpc.StatusCode.CANCELLED).value[0]
        attributes["rpc.grpc.status_code"] = self._status_code or status
        self.span.annotate(attributes)
        self.span.end(None if code == OK else code)

    async def send_request_id(self) -> None:
        """Send the initial metadata of a call that has no answer yet, or fails; once."""
        if not self._has_sent_id:
            self._has_sent_id = True
            await self.context.send_initial_metadata(self.initial_metadata())

    def initial_metadata(self) -> Metadata:
        """The request id. A unary call has that of its receipt, which may be a replay's."""
        request_id = ("x-request-id", self.request_id)
        if self.span is None:
            return (request_id,)
        return (request_id, ("traceparent", self.span.traceparent))

    async def read(self, message_type: type[Request], run: InTurns) -> Request:
        """The one message of a unary call; raises ``invalid_body`` if there is none, or another.

        ``run`` parses a large one.
        """
        received: Any = await self.context.read()
        if received is grpc.aio.EOF:
            raise IngestError(ErrorCode.INVALID_BODY, "The call has no message.")
        message = await self.parse(received, run)
        del received  # its bytes, while the end of the call is awaited
        assert isinstance(message, message_type)
        if await self.context.read() is not grpc.aio.EOF:
            raise IngestError(ErrorCode.INVALID_BODY, "The call has more than one message.")
        return message

    async def parse(self, received: Received | IngestError, run: InTurns) -> Message:
        """The message that was received; raises the error that refuses it."""
        if isinstance(received, IngestError):
            raise received
        self.message_bytes = len(received.data)
        if self.message_bytes < MIN_SLICED_BYTES:
            return received.parse()
        return await run(received.parsed())

    async def fail(self, error: Exception) -> NoReturn:
        """End the call with the error's status and details; raises the library's AbortError.

        An error that is no :data:`CallError` is logged, and its client sees an ``internal_error``.
        """
        raised = error
        if not isinstance(error, CallError):
            log.error("crashed", exc_info=error, extra={"request_id": self.request_id})
            error = IngestError(ErrorCode.INTERNAL_ERROR, INTERNAL_MESSAGE)
        if isinstance(error, IngestError):
            log_internal(log, error, self.request_id)
            self.code = error.code
            if error.code in STRANGERS_CODES:
                self._connections.note_refused(self.context.peer())
        elif isinstance(error, StreamError):
            self.code = error.reason
        organization = self.caller and ids.text(ids.ORGANIZATION, self.caller.organization_id)
        status = self._renderer.render(error, self.request_id, organization or "")
        self._status_code = status.code
        # The frames of the error's traceback hold whole messages, while the status is sent.
        raised.__traceback__ = raised.__cause__ = raised.__context__ = None
        try:
            async with asyncio.timeout(MAX_STATUS_SECONDS):
                await self.send_request_id()
                await self.context.abort_with_status(rpc_status.to_status(status))
        except TimeoutError:
            # The status waits behind what the client does not read. The library resets a call that
            # ends as if it were cancelled.
            raise asyncio.CancelledError from None
        raise AssertionError("unreachable")


def authorization_of(context: Context) -> str | None:
    """The Authorization value of a call, which may be nobody's."""
    metadata = context.invocation_metadata() or ()
    values = [str(value) for name, value in metadata if name == "authorization"]
    # Two credentials are invalid together: either could be the one the client did not mean.
    return ", ".join(values) if values else None


class Received(NamedTuple):
    """A message as it came. It is parsed by its reader: what a deserializer does takes no turn.

    Its size would be lost with the bytes, and to find it out encodes all of the message anew.
    """

    message_type: type[Message]
    data: bytes

    def parse(self) -> Message:
        """The message. Raises ``invalid_body`` if it cannot be parsed."""
        try:
            return self.message_type.FromString(self.data)
        except DecodeError as error:
            reason = f"The message cannot be parsed: {error}"
        raise IngestError(ErrorCode.INVALID_BODY, reason)

    def parsed(self) -> Sliced[Message]:
        """:meth:`parse`, as a slice of its own."""
        yield from ()
        return self.parse()


def deserializer(message_type: type[Message]) -> Callable[[bytes], Received | IngestError]:
    """A deserializer that returns an error where the library would fail without details."""

    def deserialize(data: bytes) -> Received | IngestError:
        if len(data) > MAX_BODY_BYTES:
            return IngestError(
                ErrorCode.BATCH_TOO_LARGE,
                f"The message is over {MAX_BODY_BYTES} bytes; send smaller batches.",
            )
        return Received(message_type, data)

    return deserialize
