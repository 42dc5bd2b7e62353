"""A producer's delivery: one stream after another until the outbox is empty for good."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import grpc

from grpc_api.pb import ingest_pb2 as pb
from grpc_api.producer.send_buffer import Batch, Outbox, SequenceLostError
from grpc_api.producer.status import Ending, ProducerError, ending_of

log = logging.getLogger(__name__)

METHOD: Final = "/wepeople.ingest.v1.IngestService/StreamEvents"
OPEN_SECONDS: Final = 15.0  # more than the server may take with its database away
FIRST_BACKOFF_SECONDS: Final = 0.1
MAX_BACKOFF_SECONDS: Final = 10.0
# A stream that lasted so long ended for its age, not for a fault of its beginning.
SETTLED_SECONDS: Final = 5.0
MAX_COUNTED_ATTEMPTS: Final = 20
STATUS_SECONDS: Final = 2.0  # between grpc's own status of a call and the server's

_CHANNEL_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    # Finds a server that vanished without a word. Servers allow a ping every five seconds.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    # Each stream has a connection of its own, so that a new one can reach another server.
    ("grpc.use_local_subchannel_pool", 1),
)

# number, event, code, message
OnRejected = Callable[[int, pb.IngestEvent, str, str], None]
# Of calls whose requests are bytes and whose responses are messages types-grpcio knows nothing.
_Call = Any


@dataclass(frozen=True, slots=True)
class Connection:
    """Where a producer's streams go, and as whom."""

    target: str
    api_key: str
    producer_id: str
    credentials: grpc.ChannelCredentials | None

    def channel(self) -> grpc.aio.Channel:
        """A new connection, made when it is first used."""
        if self.credentials is None:
            return grpc.aio.insecure_channel(self.target, options=_CHANNEL_OPTIONS)
        return grpc.aio.secure_channel(self.target, self.credentials, options=_CHANNEL_OPTIONS)


class Delivery:
    """Gives an outbox's batches to the server and settles them by its acks.

    ``work`` is to be set whenever there may be something to write. ``progress`` is set when a
    stream has opened, an ack has come or the delivery has failed.
    """

    def __init__(
        self,
        connection: Connection,
        outbox: Outbox,
        *,
        max_in_flight: int,
        on_rejected: OnRejected | None,
        give_up_after_seconds: float | None,
    ) -> None:
        self.work = asyncio.Event()
        self.progress = asyncio.Event()
        self.failure: Exception | None = None
        self.streams_opened = 0
        self.resumed = pb.StreamOpened()  # how far the producer had come before
        self.accepted = self.rejected = self.duplicate = 0  # events
        self.duplicate_rejected = 0  # of the duplicates
        self.quota_left: int | None = None
        self._connection = connection
        self._outbox = outbox
        self._max_in_flight = max_in_flight
        self._window = max_in_flight
        self._on_rejected = on_rejected
        self._give_up_after_seconds = give_up_after_seconds
        self._finishing = False
        self._failed_attempts = 0
        self._failing_since: float | None = None

    def finish(self) -> None:
        """Let :meth:`run` end once everything is acked."""
        self._finishing = True
        self.work.set()

    def hold(self) -> None:
        """Give nothing more to the server; acks of what it was given are still settled."""
        self._window = self._max_in_flight = 0

    async def run(self) -> None:
        """Deliver until :meth:`finish`; what ends it earlier is its ``failure``."""
        try:
            while not self._is_finished():
                began = asyncio.get_running_loop().time()
                ending = await self._stream()
                if self._is_finished():
                    return
                await self._recover(ending, asyncio.get_running_loop().time() - began)
        except SequenceLostError as error:
            self.failure = ProducerError(
                grpc.StatusCode.FAILED_PRECONDITION, "SEQUENCE_LOST", str(error)
            )
        except Exception as error:
            self.failure = error
        finally:
            self.progress.set()

    def _is_finished(self) -> bool:
        return self._finishing and not self._outbox.unacked_batches

    # --- one stream ------------------------------------------------------------------------------

    async def _stream(self) -> Ending:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[Ending] = loop.create_future()

        def finish(call: _Call) -> None:
            if not ended.done():
                ended.set_result(ending_of(call))

        def fail(task: asyncio.Task[None]) -> None:
            if not (task.cancelled() or ended.done()) and (error := task.exception()):
                ended.set_exception(error)

        async with self._connection.channel() as channel:
            method: _Call = channel.stream_stream(
                METHOD, response_deserializer=pb.StreamEventsResponse.FromString
            )
            call = method(metadata=(("authorization", f"Bearer {self._connection.api_key}"),))
            call.add_done_callback(finish)
            tasks: list[asyncio.Task[None]] = []
            try:
                async with asyncio.timeout(OPEN_SECONDS) as patience:
                    tasks.append(asyncio.create_task(self._read(call, patience)))
                    tasks.append(asyncio.create_task(self._write(call)))
                    for task in tasks:
                        task.add_done_callback(fail)
                    ending = await ended
                # The last acks came before the status, and the status may be one of grpc's own.
                await asyncio.wait(tasks[:1], timeout=STATUS_SECONDS)
                if tasks[0].done() and not tasks[0].cancelled():
                    tasks[0].result()
                return ending_of(call) if ending.is_grpcs_own else ending
            except TimeoutError:
                message = f"the server did not open the stream within {OPEN_SECONDS:g} s"
                return Ending(grpc.StatusCode.DEADLINE_EXCEEDED, message)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                call.cancel()

    async def _read(self, call: _Call, patience: asyncio.Timeout) -> None:
        with contextlib.suppress(grpc.aio.AioRpcError):  # what it says is in the ending
            # Not by `read`, which leaves acks lie as soon as a write has failed, and with them the
            # status, which core gives only after the messages before it.
            async for response in call:
                if response.WhichOneof("message") == "ack":
                    self._settle(response.ack)
                elif not patience.expired():
                    patience.reschedule(None)
                    self._resume(response.opened)

    async def _write(self, call: _Call) -> None:
        streams_opened = self.streams_opened
        opening = pb.StreamOpen(producer_id=self._connection.producer_id)
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await call.write(pb.StreamEventsRequest(open=opening).SerializeToString())
            while True:
                opened = self.streams_opened > streams_opened
                batch = self._outbox.next_to_send(self._window) if opened else None
                if batch is not None:
                    await call.write(batch.message)
                elif self._is_finished():
                    await call.done_writing()
                    return
                else:
                    self.work.clear()
                    await self.work.wait()

    def _resume(self, opened: pb.StreamOpened) -> None:
        if self.streams_opened:
            for batch in self._outbox.resume(opened.last_sequence):
                self.duplicate += batch.count
                self._note_progress()
            # What the server has counted, less what we knew of: the acks that were lost.
            known = self.resumed.rejected + self.rejected
            self.duplicate_rejected = max(0, opened.rejected - known)
        else:
            self.resumed = opened
            self._outbox.start(opened.last_sequence)
        self.streams_opened += 1
        self._window = min(self._max_in_flight, opened.max_in_flight or self._window)
        if not self._outbox.unacked_batches:
            self._note_progress()
        self.work.set()
        self.progress.set()

    def _settle(self, ack: pb.StreamAck) -> None:
        batch = self._outbox.take_acked(ack.sequence)
        self._note_progress()
        self.work.set()
        self.progress.set()
        self.quota_left = ack.quota_left if ack.HasField("quota_left") else None
        if ack.duplicate:
            self.duplicate += batch.count
            return
        self.accepted += ack.accepted
        self.rejected += len(ack.rejected)
        if ack.rejected and self._on_rejected is not None:
            try:
                self._report(batch, ack, self._on_rejected)
            except Exception as error:
                self.failure = error  # at once: whoever waits for this very ack is to hear of it
                raise

    def _report(self, batch: Batch, ack: pb.StreamAck, on_rejected: OnRejected) -> None:
        events = batch.events()
        for one in ack.rejected:
            # The number says which one; its position in a batch means nothing to the caller.
            message = one.message.replace(f"events[{one.index}].", "")
            message = message.removeprefix(f"events[{one.index}]: ")
            on_rejected(batch.first_number + one.index, events[one.index], one.code, message)

    # --- between streams -------------------------------------------------------------------------

    def _note_progress(self) -> None:
        self._failed_attempts = 0
        self._failing_since = None

    async def _recover(self, ending: Ending, lasted_seconds: float) -> None:
        """Wait until opening again makes sense; raises :class:`ProducerError` if it never will."""
        if not ending.passes:
            raise ProducerError(ending.code, ending.reason, ending.message)
        if ending.is_age and (self._failing_since is None or lasted_seconds >= SETTLED_SECONDS):
            log.info("the server ended the stream for its age; opening another")
            self._failing_since = asyncio.get_running_loop().time()
            return
        now = asyncio.get_running_loop().time()
        if self._failing_since is None:
            self._failing_since = now
        backoff = min(MAX_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2**self._failed_attempts)
        delay = backoff * random.uniform(0.5, 1)  # noqa: S311 - only keeps clients apart
        delay += ending.retry_after_seconds or 0
        self._failed_attempts = min(self._failed_attempts + 1, MAX_COUNTED_ATTEMPTS)
        give_up = self._give_up_after_seconds
        if give_up is not None and now + delay > self._failing_since + give_up:
            message = f"{ending.message or ending.code.name}; given up after {give_up:g} s"
            raise ProducerError(ending.code, ending.reason, message)
        log.warning(
            "the stream ended (%s: %s); opening another in %.1f s",
            ending.reason or ending.code.name,
            ending.message,
            delay,
        )
        await asyncio.sleep(delay)
