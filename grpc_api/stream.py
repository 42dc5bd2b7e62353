"""StreamEvents: batches in, acks out, in order, bounded, resumable (contract section 10).

A stream has three tasks. One reads messages as they arrive, a little ahead. One hands their batches
to the core without waiting for their commit. One writes acks, in order, as batches are committed. A
slot is taken before a batch is read, and room before it is decoded; both are given back when the
transport has the ack. So a client that does not read its acks is stopped by HTTP/2 flow control,
and after a while its stream ends.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Final, NamedTuple

import grpc

from core import ids
from core.access.shared_budget import Holding
from core.counters import Counters
from core.error_codes import ErrorCode, StreamReason
from core.errors import IngestError, StreamError, unavailable
from core.ingest import Ingestor
from core.journal.pending_events import prepared
from core.limits import MAX_BATCH_EVENTS
from core.models import Caller, EventBatch, Receipt, StreamPosition
from core.rules.event_batch import check_count
from core.slices import InTurns
from core.tracing import Span
from grpc_api import convert, responses
from grpc_api.call import Call
from grpc_api.open_streams import EndRequest, OpenStreams, ProducerStream
from grpc_api.pb import ingest_pb2 as pb
from grpc_api.read_ahead import ReadAhead
from grpc_api.spans import end_batch, end_with_receipt

MAX_IN_FLIGHT: Final = 32
# The time that the batches already read have to be committed and acked when a stream must end:
# the first if its client has lost its rights, the second otherwise.
MAX_FINISH_SECONDS: Final = 0.5
MAX_DRAIN_SECONDS: Final = 5.0
# The time that a stream of the largest age goes on reading what its client may have sent before,
# and the pause between two checks whether anything of that is left.
MAX_READ_ON_SECONDS: Final = 5.0
READ_ON_CHECK_SECONDS: Final = 0.05
# The time that a client may leave an ack unread, which holds up its organization's other streams.
MAX_UNREAD_SECONDS: Final = 60.0


class _Unacked(NamedTuple):
    sequence: int
    receipt: asyncio.Future[Receipt]
    room: Holding  # for the batch, and then for its receipt
    admitted_at: float  # by the monotonic clock


class EventStream:
    """One call of StreamEvents, served by :meth:`run` and told to end by :meth:`end`."""

    def __init__(
        self, call: Call, ingestor: Ingestor, streams: OpenStreams, counters: Counters
    ) -> None:
        self._call = call
        self._counters = counters
        self._ingestor = ingestor
        self._streams = streams
        self._slots = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._messages = ReadAhead(call.context, self._slots)
        self._unacked: deque[_Unacked] = deque()
        self._wake_ack_writer = asyncio.Event()
        self._awaits_message = False  # everything that has arrived was read
        self._has_message = False  # the message read last is not in ``_unacked`` yet
        self._half_closed = False  # by the client
        self._producer_id = ""
        self._epoch = 0
        self._end_request: EndRequest = asyncio.get_running_loop().create_future()
        self._place: Holding | None = None

    async def run(self) -> None:
        """Serve the stream to its end.

        Returns, for status OK, only if the client has half-closed and every ack is written. Raises
        the error for the status otherwise: the client may have sent messages that were not read.
        """
        caller, _ = await self._ingestor.admit(self._call.authorization)
        self._call.admit(caller)
        self._caller = caller
        self._place = self._ingestor.hold_stream(caller)
        assert self._call.authorization is not None
        with self._ingestor.key_watch.watching(self._call.authorization, self.end):
            await self._serve()

    def close(self) -> None:
        """Make room for another stream, once the call has its status and holds no more memory."""
        if self._place is not None:
            self._place.release()

    async def _serve(self) -> None:
        self._messages.start()
        reading = asyncio.create_task(self._read())
        reading.add_done_callback(lambda _: self._wake_ack_writer.set())
        writing = asyncio.create_task(self._write_acks(reading))
        try:
            await self._wait(self._streams.max_seconds, writing)
            if not (writing.done() or self._end_request.done()):
                await self._read_on(reading, writing)
            await self._finish(reading, writing)
        finally:
            self._messages.stop()
            if self._producer_id:
                self._streams.leave(self._caller.app_id, self._producer_id, self._end_request)
            # The journal finishes the transactions it has begun; only their receipts are lost.
            receipts = [unacked.receipt for unacked in self._unacked]
            unfinished: list[asyncio.Future[Any]] = [reading, writing, *receipts]
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)
            for unacked in self._unacked:
                unacked.room.release()

    async def _read_on(self, reading: asyncio.Task[None], writing: asyncio.Task[None]) -> None:
        """Go on past the largest age while messages may be left that the client sent before.

        Only reading tells whether the client has half-closed, and the stream can end with OK.
        """
        loop = asyncio.get_running_loop()
        last = loop.time() + MAX_READ_ON_SECONDS
        while loop.time() < last and not (reading.done() or writing.done()):
            await self._wait(READ_ON_CHECK_SECONDS, writing)
            if self._end_request.done() or (self._awaits_message and not self._unacked):
                return

    async def _finish(self, reading: asyncio.Task[None], writing: asyncio.Task[None]) -> None:
        """Stop reading, let the batches already read be committed and acked, decide the status."""
        self._messages.stop()
        if not self._has_message:
            reading.cancel()
        await self._wait(MAX_DRAIN_SECONDS, writing)
        if self._end_request.done():
            error = self._end_request.result()
            if isinstance(error, IngestError) and error.transient:
                await asyncio.wait([writing], timeout=MAX_DRAIN_SECONDS)
            else:
                reading.cancel()
                await asyncio.wait([writing], timeout=MAX_FINISH_SECONDS)
                raise error
        if writing.done():
            writing.result()
            if not reading.cancelled():
                reading.result()
            if self._half_closed:
                return
        if self._end_request.done():
            raise self._end_request.result()
        raise StreamError(
            StreamReason.STREAM_TOO_OLD,
            "The stream has reached its largest age. Open another one and go on there.",
        )

    async def _wait(self, seconds: float, writing: asyncio.Task[None]) -> None:
        """Wait until acks are all written or the stream must end, for at most ``seconds``."""
        ends: list[asyncio.Future[Any]] = [writing, self._end_request]
        await asyncio.wait(ends, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)

    # --- reading -----------------------------------------------------------------------------

    async def _read(self) -> None:
        message = await self._next()
        if message is not None and message.WhichOneof("message") == "open":
            self._has_message = False
            self._slots.release()  # it has no ack
            await self._open(message.open.producer_id)
            message = await self._next()
        else:
            await self._send_opened(pb.StreamOpened())
        while message is not None:
            events = min(len(message.batch.events), MAX_BATCH_EVENTS)
            caller, room = await self._ingestor.admit_batch(
                self._call.authorization, events, self._call.message_bytes
            )
            await self._submit(caller, message, room)
            self._has_message = False
            if self._messages.is_stopped:
                return
            message = await self._next()
        self._half_closed = True

    async def _next(self) -> pb.StreamEventsRequest | None:
        self._awaits_message = True
        received = await self._messages.next()
        self._awaits_message = False
        if received is grpc.aio.EOF:
            return None
        self._has_message = True
        try:
            message = await self._call.parse(received, self._ingestor.in_turns(self._caller))
        except IngestError:
            self._has_message = False
            raise
        assert isinstance(message, pb.StreamEventsRequest)
        return message

    async def _open(self, producer_id: str) -> None:
        progress = await self._ingestor.open_stream(self._caller, producer_id)
        self._producer_id, self._epoch = producer_id, progress.epoch
        self._streams.take_over(
            self._caller.app_id, producer_id, ProducerStream(self._epoch, self._end_request)
        )
        await self._send_opened(
            pb.StreamOpened(
                last_sequence=progress.sequence,
                accepted=progress.accepted,
                rejected=progress.rejected,
            )
        )

    async def _send_opened(self, opened: pb.StreamOpened) -> None:
        opened.max_in_flight = MAX_IN_FLIGHT
        await self._write(pb.StreamEventsResponse(opened=opened))

    async def _batch(
        self, message: pb.StreamEventsRequest, run: InTurns, span: Span | None
    ) -> EventBatch:
        if message.WhichOneof("message") != "batch":
            raise _invalid("a stream opens once, with its first message; then it has batches")
        batch = message.batch
        position = None
        if self._producer_id:
            if not batch.sequence:
                raise _invalid("sequence: must be set in a stream with a producer_id, from 1")
            if batch.HasField("idempotency_key"):
                raise _invalid("idempotency_key: a producer's batches have a sequence instead")
            position = StreamPosition(self._producer_id, self._epoch, batch.sequence)
        elif batch.sequence:
            raise _invalid("sequence: must not be set in a stream without a producer_id")
        check_count(len(batch.events))  # before the cost of converting them
        events, size_bytes = await convert.events(batch, self._call.message_bytes, run)
        return EventBatch(
            ids.new_request_id(self._call.clock.now_us()),
            events,
            batch.idempotency_key if batch.HasField("idempotency_key") else None,
            streamed=True,
            position=position,
            size_bytes=size_bytes,
            span=span,
        )

    async def _submit(self, caller: Caller, message: pb.StreamEventsRequest, room: Holding) -> None:
        admitted_at = self._call.clock.monotonic()
        span = self._call.span and self._call.span.begin_batch()
        try:
            run = self._ingestor.in_turns(caller)
            batch = await prepared(await self._batch(message, run, span), run)
            receipt = self._ingestor.enqueue(caller, batch, admitted_at)
        except BaseException as error:
            room.release()
            if span is not None:
                end_batch(span, error)
            raise
        if span is not None:
            end_with_receipt(span, caller, batch, receipt)
        sequence = batch.position.sequence if batch.position else 0
        self._unacked.append(_Unacked(sequence, receipt, room, admitted_at))
        self._wake_ack_writer.set()

    # --- writing -----------------------------------------------------------------------------

    async def _write_acks(self, reading: asyncio.Task[None]) -> None:
        while True:
            while not self._unacked:
                if reading.done():
                    return
                self._wake_ack_writer.clear()
                await self._wake_ack_writer.wait()
            unacked = self._unacked[0]
            receipt = await unacked.receipt
            await self._ingestor.begin_ack(self._caller)
            await self._write(responses.ack(receipt, unacked.sequence))
            self._unacked.popleft().room.release()
            self._counters.stream_batch(self._call.clock.monotonic() - unacked.admitted_at)
            self._slots.release()

    async def _write(self, ack: pb.StreamEventsResponse) -> None:
        try:
            async with asyncio.timeout(MAX_UNREAD_SECONDS):
                await self._call.context.write(ack)
        except TimeoutError:
            raise unavailable(
                f"The acks were not read for {MAX_UNREAD_SECONDS:g} s. Open another stream."
            ) from None

    def end(self, error: BaseException) -> None:
        """Have the stream end with an error; the first one counts."""
        if not self._end_request.done():
            self._end_request.set_result(error)


def _invalid(message: str) -> IngestError:
    return IngestError(ErrorCode.INVALID_BODY, message)
