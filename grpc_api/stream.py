"""StreamEvents: batches in, acks out, in order, bounded, resumable (contract section 10).

Three tasks a stream: one reads batches and hands them to the core without waiting for their
commit, one writes acks in order as commits return, one watches the key. A slot is taken before a
batch is read and given back when its ack is written, so a client that sends without reading is
stopped by HTTP/2 flow control and the server holds a bounded number of batches for it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Final, NamedTuple

import grpc

from core import ids
from core.access.authentication import MAX_CALLER_AGE_SECONDS
from core.error_codes import ErrorCode, StreamReason
from core.errors import IngestError, StreamError, unavailable
from core.ingest import Ingestor, check_count
from core.limits import MAX_BATCH_EVENTS
from core.models import Caller, EventBatch, Receipt, StreamPosition
from grpc_api import convert
from grpc_api.call import Call
from grpc_api.open_streams import Ending, Holder, OpenStreams
from grpc_api.pb import ingest_pb2 as pb

MAX_IN_FLIGHT: Final = 32
# How long what was read may still take once the stream must end: if its client has lost its
# rights, and if it has not.
MAX_FINISH_SECONDS: Final = 0.5
MAX_DRAIN_SECONDS: Final = 5.0
# How long a stream of the largest age goes on reading what its client may have sent before, and
# how often it looks whether anything is left of that.
MAX_READ_ON_SECONDS: Final = 5.0
READ_ON_CHECK_SECONDS: Final = 0.05


class _Pending(NamedTuple):
    sequence: int
    receipt: asyncio.Future[Receipt]


class EventStream:
    """One call of StreamEvents."""

    def __init__(self, call: Call, ingestor: Ingestor, streams: OpenStreams) -> None:
        self._call = call
        self._ingestor = ingestor
        self._streams = streams
        self._slots = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._pending: deque[_Pending] = deque()
        self._arrived = asyncio.Event()
        self._listening = False  # nothing has come that was not read
        self._holding = False  # a batch was read that is not pending yet
        self._half_closed = False
        self._read_last = False
        self._producer_id = ""
        self._epoch = 0
        self._ending: Ending = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Serve the stream to its end. Raises what its status is to say.

        Returns, which is OK, only if the client has half-closed and has every ack: whatever else
        ends a stream may leave something unread that the client has sent.
        """
        caller = self._call.caller = await self._ingestor.authenticate(self._call.authorization)
        watching = [
            asyncio.create_task(self._watch_key()),
            asyncio.create_task(self._watch_drain()),
        ]
        reading = asyncio.create_task(self._read())
        reading.add_done_callback(lambda _: self._arrived.set())
        writing = asyncio.create_task(self._write_acks(reading))
        try:
            await self._until(self._streams.max_seconds, writing)
            if not (writing.done() or self._ending.done()):
                await self._read_on(reading, writing)
            await self._finish(reading, writing)
        finally:
            if self._producer_id:
                self._streams.leave(caller.app_id, self._producer_id, self._ending)
            # What the journal has begun it finishes; nobody is there to hear of it.
            receipts = [pending.receipt for pending in self._pending]
            unfinished: list[asyncio.Future[Any]] = [*watching, reading, writing, *receipts]
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)

    async def _read_on(self, reading: asyncio.Task[None], writing: asyncio.Task[None]) -> None:
        """Past its age: go on while there is something that the client may have sent before it.

        Whether it has half-closed only reading tells.
        """
        loop = asyncio.get_running_loop()
        last = loop.time() + MAX_READ_ON_SECONDS
        while loop.time() < last and not (reading.done() or writing.done()):
            await self._until(READ_ON_CHECK_SECONDS, writing)
            if self._ending.done() or (self._listening and not self._pending):
                return

    async def _finish(self, reading: asyncio.Task[None], writing: asyncio.Task[None]) -> None:
        """Read nothing more, let what was read be committed and acked, and decide the status."""
        self._read_last = True
        if not self._holding:
            reading.cancel()
        await self._until(MAX_DRAIN_SECONDS, writing)
        if self._ending.done():
            error = self._ending.result()
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
        if self._ending.done():
            raise self._ending.result()
        raise StreamError(
            StreamReason.STREAM_TOO_OLD,
            "The stream has reached its largest age. Open another one and go on there.",
        )

    async def _until(self, seconds: float, *done: asyncio.Future[Any]) -> None:
        await asyncio.wait(
            [*done, self._ending], timeout=seconds, return_when=asyncio.FIRST_COMPLETED
        )

    # --- reading -----------------------------------------------------------------------------

    async def _read(self) -> None:
        await self._slots.acquire()
        message = await self._next()
        if message is not None and message.WhichOneof("message") == "open":
            self._holding = False
            await self._open(message.open.producer_id)
            message = await self._next()
        else:
            await self._send_opened(pb.StreamOpened())
        while message is not None:
            events = len(message.batch.events)
            await self._ingestor.begin_reading(min(events, MAX_BATCH_EVENTS))
            batch = self._batch(message)
            size_bytes = self._ingestor.memory_needed(batch)
            self._submit(await self._turn(size_bytes), batch, size_bytes)
            self._holding = False
            if self._read_last:
                return
            await self._slots.acquire()
            message = await self._next()
        self._half_closed = True

    async def _next(self) -> pb.StreamEventsRequest | None:
        self._listening = True
        message: Any = await self._call.context.read()
        self._listening = False
        if message is grpc.aio.EOF:
            return None
        if isinstance(message, IngestError):
            raise message
        assert isinstance(message, pb.StreamEventsRequest)
        self._holding = True
        return message

    async def _open(self, producer_id: str) -> None:
        caller = self._call.caller
        assert caller is not None
        progress = await self._ingestor.open_stream(caller, producer_id)
        self._producer_id, self._epoch = producer_id, progress.epoch
        self._streams.take_over(caller.app_id, producer_id, Holder(self._epoch, self._ending))
        await self._send_opened(
            pb.StreamOpened(
                last_sequence=progress.sequence,
                accepted=progress.accepted,
                rejected=progress.rejected,
            )
        )

    async def _send_opened(self, opened: pb.StreamOpened) -> None:
        opened.max_in_flight = MAX_IN_FLIGHT
        await self._call.context.write(pb.StreamEventsResponse(opened=opened))

    def _batch(self, message: pb.StreamEventsRequest) -> EventBatch:
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
        check_count(len(batch.events))  # before they are looked at
        events, size_bytes = convert.events(batch)
        return EventBatch(
            ids.new_request_id(self._call.clock.now_us()),
            events,
            batch.idempotency_key if batch.HasField("idempotency_key") else None,
            streamed=True,
            position=position,
            size_bytes=size_bytes,
        )

    async def _turn(self, size_bytes: int) -> Caller:
        """Wait for a rate token, then for room; returns the rights that are in force then.

        After reading, so that an idle stream's next batch meets the rights of its moment.
        """
        caller = await self._ingestor.await_turn(self._call.authorization)
        room = self._streams.room
        if not await room.enter(size_bytes):
            return caller
        try:
            return await self._ingestor.authenticate(self._call.authorization)
        except BaseException:
            room.leave(size_bytes)
            raise

    def _submit(self, caller: Caller, batch: EventBatch, size_bytes: int) -> None:
        room = self._streams.room
        try:
            receipt = self._ingestor.enqueue(caller, batch)
        except BaseException:
            room.leave(size_bytes)
            raise
        receipt.add_done_callback(lambda _: room.leave(size_bytes))
        self._pending.append(_Pending(batch.position.sequence if batch.position else 0, receipt))
        self._arrived.set()

    # --- writing -----------------------------------------------------------------------------

    async def _write_acks(self, reading: asyncio.Task[None]) -> None:
        while True:
            while not self._pending:
                if reading.done():
                    return
                self._arrived.clear()
                await self._arrived.wait()
            pending = self._pending[0]
            receipt = await pending.receipt
            await self._call.context.write(convert.ack(receipt, pending.sequence))
            self._pending.popleft()
            self._slots.release()

    # --- what ends a stream -------------------------------------------------------------------

    async def _watch_key(self) -> None:
        while True:
            await asyncio.sleep(MAX_CALLER_AGE_SECONDS)
            try:
                await self._ingestor.authenticate(self._call.authorization)
            except IngestError as error:
                if error.code is not ErrorCode.INTERNAL_ERROR:
                    self._end(error)
                    return
            except Exception as error:  # a stream must not go on with nobody watching its key
                self._end(error)
                return

    async def _watch_drain(self) -> None:
        await self._streams.draining.wait()
        self._end(unavailable("The service is shutting down. Open again shortly."))

    def _end(self, error: Exception) -> None:
        if not self._ending.done():
            self._ending.set_result(error)


def _invalid(message: str) -> IngestError:
    return IngestError(ErrorCode.INVALID_BODY, message)
