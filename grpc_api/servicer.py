"""The methods of IngestService: convert the request, call the core, convert its answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, NoReturn, TypeVar

import grpc
from google.protobuf.message import Message

from core.clock import Clock
from core.counters import CANCELLED, OK, Counters
from core.error_codes import ErrorCode
from core.errors import IngestError, unavailable
from core.ingest import Ingestor
from core.journal.journal import MAX_ANSWER_SECONDS
from core.models import Caller, EventBatch, SnapshotRequest
from core.rules.event_batch import check_count
from core.tracing import Tracer
from grpc_api import convert, responses
from grpc_api.accepting import Context, Metadata, Method, UnaryMethod, forgetting_aborts
from grpc_api.arrivals import Arrivals
from grpc_api.call import (
    LOOKAHEAD_BYTES,
    MAX_RECEIVE_BYTES,
    Call,
    Request,
    authorization_of,
    deserializer,
)
from grpc_api.connections import Connections
from grpc_api.deadlines import Deadlines
from grpc_api.errors import StatusRenderer, UnknownMethodError
from grpc_api.open_streams import OpenStreams
from grpc_api.pb import ingest_pb2 as pb
from grpc_api.spans import begin_call
from grpc_api.stream import EventStream

SERVICE: Final = "wepeople.ingest.v1.IngestService"

# The message of a unary call: in all, its wait for a place included.
MAX_ARRIVAL_SECONDS: Final = 60.0
# The journal answers what it has within MAX_ANSWER_SECONDS; this ends a call that hangs elsewhere.
MAX_SERVE_SECONDS: Final = MAX_ANSWER_SECONDS + 1.0

Response = TypeVar("Response", bound=Message)


class IngestServicer:
    """Serves ``proto/wepeople/ingest/v1/ingest.proto``.

    A method raises its errors; ``_unary`` and ``stream_events`` end the call with their status.
    """

    def __init__(
        self,
        ingestor: Ingestor,
        renderer: StatusRenderer,
        counters: Counters,
        clock: Clock,
        max_stream_seconds: float,
        connections: Connections,
        tracer: Tracer | None = None,
    ) -> None:
        self.connections = connections
        self._tracer = tracer
        self._ingestor = ingestor
        self._counters = counters
        self._renderer = renderer
        self._clock = clock
        self._streams = OpenStreams(max_stream_seconds)
        self._arrivals = Arrivals()
        self._deadlines = Deadlines()

    async def drain(self, seconds: float) -> None:
        """End every stream once the batches it has read are acked, for at most ``seconds``.

        A stream that is opened later ends at once.
        """
        await self._streams.drain(seconds)

    def returns(self, context: Context) -> bool:
        """Whether a call is a stranger's, on a connection on which only strangers called before."""
        return self.connections.was_refused(context.peer) and self._ingestor.is_strangers(
            authorization_of(context)
        )

    async def begin_unkeyed(self) -> None:
        """Begin a call that needs no key in its turn."""
        await self._ingestor.begin_unkeyed(1)

    async def ping(self, call: Call, _: pb.PingRequest, caller: Caller) -> pb.PingResponse:
        """Validate a key."""
        return responses.ping_response(caller)

    async def ingest_events(
        self, call: Call, request: pb.IngestEventsRequest, caller: Caller
    ) -> pb.IngestEventsResponse:
        """Store a batch."""
        call.events = len(request.events)
        check_count(call.events)  # before the cost of converting them
        events, size_bytes = await convert.events(
            request, call.message_bytes, self._ingestor.in_turns(caller)
        )
        batch = EventBatch(
            call.request_id,
            events,
            request.idempotency_key if request.HasField("idempotency_key") else None,
            size_bytes=size_bytes,
            span=call.span,
        )
        receipt = await self._ingestor.ingest(caller, batch)
        call.request_id = receipt.request_id
        return responses.events_response(receipt)

    async def ingest_snapshot(
        self, call: Call, request: pb.IngestSnapshotRequest, caller: Caller
    ) -> pb.IngestSnapshotResponse:
        """Store a snapshot."""
        try:
            snapshot = convert.snapshot(request)
        except ValueError as error:
            raise IngestError(ErrorCode.INVALID_BODY, str(error)) from None
        key = request.idempotency_key if request.HasField("idempotency_key") else None
        wanted = SnapshotRequest(call.request_id, snapshot, key, call.message_bytes, call.span)
        receipt = await self._ingestor.ingest_snapshot(caller, wanted)
        call.request_id = receipt.request_id
        return responses.snapshot_response(receipt)

    async def stream_events(self, _: object, context: Context) -> None:
        """Store the batches of a stream; see :class:`EventStream`."""
        call = Call(context, self._renderer, self._clock, self.connections)
        stream = EventStream(call, self._ingestor, self._streams, self._counters)
        with (
            self._streams.open(stream.end),
            self._counted("stream", call),
            self._counted_open(),
            contextlib.closing(stream),
        ):
            await call.send_request_id()
            try:
                await stream.run()
            except (asyncio.CancelledError, grpc.aio.AbortError):
                raise
            except Exception as error:
                await self._fail(call, "stream", error)

    async def _fail(self, call: Call, endpoint: str, error: Exception) -> NoReturn:
        # A stream that the service ends, as in a drain, was not refused.
        is_ended = endpoint == "stream" and isinstance(error, IngestError) and error.transient
        if isinstance(error, IngestError) and not is_ended:
            self._ingestor.note_refusal(error, call.refused(endpoint, error), call.caller)
        await call.fail(error)

    @contextlib.contextmanager
    def _counted_open(self) -> Iterator[None]:
        self._counters.stream(1)
        try:
            yield
        finally:
            self._counters.stream(-1)

    @contextlib.contextmanager
    def _counted(self, endpoint: str, call: Call) -> Iterator[None]:
        begin = self._clock.monotonic()
        if self._tracer is not None:
            metadata = call.context.invocation_metadata() or ()
            call.span = begin_call(self._tracer, SERVICE, endpoint, metadata)
        code = CANCELLED
        try:
            yield
            code = OK
        finally:
            seconds = self._clock.monotonic() - begin
            code = call.code or code
            self._counters.request("grpc", endpoint, code, seconds)
            call.end_span(code)

    def _unary(
        self,
        endpoint: str,
        request_type: type[Request],
        method: Callable[[Call, Request, Caller], Awaitable[Response]],
    ) -> UnaryMethod:
        async def answer(context: Context) -> tuple[bytes, Metadata]:
            call = Call(context, self._renderer, self._clock, self.connections)
            with self._counted(endpoint, call):
                try:
                    response = await self._serve(call, request_type, method)
                    return response.SerializeToString(), call.initial_metadata()
                except asyncio.CancelledError:
                    raise
                except Exception as error:
                    await self._fail(call, endpoint, error)

        # A unary call is the same on the wire as a stream of one message. Only as a stream can its
        # credential be judged before the message is read into memory.
        return UnaryMethod(answer, deserializer(request_type))

    async def _serve(
        self,
        call: Call,
        request_type: type[Request],
        method: Callable[[Call, Request, Caller], Awaitable[Response]],
    ) -> Response:
        """Admit the caller, read the request, answer it; each step within its time."""
        loop = asyncio.get_running_loop()
        request: Request | None = None
        deadline = self._deadlines.begin(MAX_ARRIVAL_SECONDS)
        try:
            caller, _ = await self._ingestor.admit(call.authorization)
            call.admit(caller)
            admitted_at = loop.time()
            request = await self._read(call, request_type, caller)
            deadline.at = loop.time() + MAX_SERVE_SECONDS
            caller = await self._ingestor.confirm(caller, call.authorization, admitted_at)
            return await method(call, request, caller)
        except asyncio.CancelledError:
            if not deadline.is_over:
                raise
            raise unavailable(
                f"The message did not arrive within {MAX_ARRIVAL_SECONDS:g} s."
                if request is None
                else "No answer in time. The data may or may not be stored."
            ) from None
        finally:
            self._deadlines.end(deadline)

    async def _read(self, call: Call, request_type: type[Request], caller: Caller) -> Request:
        """The message of a call, whose bytes are held in memory until it is parsed."""
        memory, flow = self._ingestor.hold(caller), caller.organization_id.int
        try:
            memory.grow(LOOKAHEAD_BYTES)
            await self._arrivals.take(flow)
            try:
                memory.grow(MAX_RECEIVE_BYTES - LOOKAHEAD_BYTES)
                return await call.read(request_type, self._ingestor.in_turns(caller))
            finally:
                self._arrivals.give_back(flow)
        finally:
            memory.release()

    def methods(self) -> dict[str, Method]:
        """The service's methods by name, for a server to register.

        The generated ones would answer a message that cannot be parsed without details.
        """
        return {
            "Ping": self._unary("ping", pb.PingRequest, self.ping),
            "IngestEvents": self._unary("events", pb.IngestEventsRequest, self.ingest_events),
            "IngestSnapshot": self._unary(
                "snapshots", pb.IngestSnapshotRequest, self.ingest_snapshot
            ),
            "StreamEvents": grpc.stream_stream_rpc_method_handler(
                forgetting_aborts(self.stream_events),
                request_deserializer=deserializer(pb.StreamEventsRequest),
                response_serializer=_serialize,
            ),
        }

    def unknown_methods(self) -> grpc.GenericRpcHandler:
        """The handler of every other method, for a server to register last."""
        return _UnknownMethods(self._renderer, self._clock, self.connections)


class _UnknownMethods(grpc.GenericRpcHandler):
    def __init__(self, renderer: StatusRenderer, clock: Clock, connections: Connections) -> None:
        self._renderer = renderer
        self._clock = clock
        self._connections = connections

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any]:
        async def refuse(_: object, context: Context) -> None:
            call = Call(context, self._renderer, self._clock, self._connections)
            await call.fail(UnknownMethodError(handler_call_details.method))

        # A handler of streams serves unary calls, too, as it reads and sends no message.
        return grpc.stream_stream_rpc_method_handler(forgetting_aborts(refuse))


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()
