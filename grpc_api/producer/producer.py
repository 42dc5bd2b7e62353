"""A client for programs that send many events: batches, acks, reconnects, exactly once.

    async with StreamProducer("ingest:50051", api_key, "crm-export") as producer:
        async for event in source:
            await producer.send(event)

Once ``flush`` or ``close`` returns, every event handed over before is judged and what was
accepted is stored durably, once, whatever happened to the connection or the server meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import grpc

from core.limits import MAX_BATCH_EVENTS
from grpc_api.pb import ingest_pb2 as pb
from grpc_api.producer import event_json
from grpc_api.producer.send_buffer import EVENT_ENVELOPE_BYTES, MAX_EVENTS_BYTES, Outbox
from grpc_api.producer.sender import Connection, Delivery, OnRejected
from grpc_api.producer.status import ProducerError

__all__ = ["Event", "OnRejected", "ProducerError", "ProducerMetrics", "StreamProducer"]

DEFAULT_BATCH_SECONDS: Final = 0.1
DEFAULT_MAX_IN_FLIGHT: Final = 32
DEFAULT_MAX_BUFFERED_EVENTS: Final = 20_000
DEFAULT_MAX_BUFFERED_BYTES: Final = 32 * 1_048_576
END_SECONDS: Final = 5.0  # for the server's goodbye, with everything acked

Event = pb.IngestEvent | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ProducerMetrics:
    """A producer at one moment. Counts are of events unless the name says otherwise."""

    sent: int  # handed over
    acked: int  # known to be judged, and stored if accepted: the sum of the next three
    accepted: int
    rejected: int
    duplicate: int  # committed, but the ack was lost
    duplicate_rejected: int  # of the duplicates, those rejected; which ones is not known
    buffered: int  # in memory: not acked yet
    in_flight_batches: int
    reconnects: int  # streams opened after the first
    quota_left: int | None  # of the month, by the latest ack; None if there is no quota
    last_sequence: int  # of the latest batch known to be committed


class StreamProducer:
    """Sends events in one stream, in the name of a producer, each of them exactly once.

    **Batches.** :meth:`send` fills batches of up to ``max_batch_events`` events and one message,
    and sends one that is not full after ``max_batch_seconds``. Batches that have no ack stay in
    memory and are sent again, unchanged, after a disconnect.

    **Back-pressure.** At most ``max_buffered_events`` events and ``max_buffered_bytes`` bytes wait
    in memory for their ack (one batch is always let in); beyond, :meth:`send` waits.

    **Rejected events** are final, and reported as ``on_rejected(number, event, code, message)``;
    events are numbered from 1 as they are handed over. It is called in the loop and must not
    block; what it raises ends the producer. If a connection is lost between a commit and its ack,
    the batch's events count as ``duplicate``: how many of them were rejected is known, not which.

    **Failures** that pass (connection lost, server restarting, rate limit) are met by opening
    again, with backoff and as RetryInfo says, for ever or until it has been in vain for
    ``give_up_after_seconds``. Those that do not pass (key revoked, plan disabled, another producer
    of the same id) are raised as :class:`ProducerError` by every method but :meth:`abort`; the
    producer is then of no more use, and what has no ack may or may not be stored.

    **Restarts.** The sequence of batches continues after what the server has committed for the
    producer id, :attr:`resumed_sequence`. A program that wants exactly once across its own restarts
    hands over the same events in the same order every time, and begins after the first
    :attr:`resumed_events` of them; how they are cut into batches may change. One program at a time
    uses a producer id: a second one ends the first.
    """

    def __init__(
        self,
        target: str,
        api_key: str,
        producer_id: str,
        *,
        max_batch_events: int = MAX_BATCH_EVENTS,
        max_batch_seconds: float = DEFAULT_BATCH_SECONDS,
        max_in_flight: int = DEFAULT_MAX_IN_FLIGHT,
        max_buffered_events: int = DEFAULT_MAX_BUFFERED_EVENTS,
        max_buffered_bytes: int = DEFAULT_MAX_BUFFERED_BYTES,
        on_rejected: OnRejected | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        give_up_after_seconds: float | None = None,
    ) -> None:
        """``target``: HOST:PORT. Without ``credentials`` for TLS, nothing is encrypted."""
        if not 1 <= max_batch_events <= MAX_BATCH_EVENTS:
            raise ValueError(f"max_batch_events: must be 1 to {MAX_BATCH_EVENTS}")
        if max_in_flight < 1 or max_buffered_events < 1:
            raise ValueError("max_in_flight, max_buffered_events: must be at least 1")
        if not (api_key.isascii() and api_key.isprintable()):
            raise ValueError("api_key: must be printable ASCII")
        if not producer_id:
            raise ValueError("producer_id: must not be empty")
        self._max_batch_seconds = max_batch_seconds
        self._max_buffered_events = max_buffered_events
        self._max_buffered_bytes = max_buffered_bytes
        self._outbox = Outbox(max_batch_events)
        self._delivery = Delivery(
            Connection(target, api_key, producer_id, credentials),
            self._outbox,
            max_in_flight=max_in_flight,
            on_rejected=on_rejected,
            give_up_after_seconds=give_up_after_seconds,
        )
        self._turn = asyncio.Lock()  # who hands over, in the order they came
        self._delivering: asyncio.Task[None] | None = None
        self._sealing: asyncio.TimerHandle | None = None
        self._owes_turn = False
        self._closed = False  # takes no more events
        self._aborted = False

    # --- beginning and end ---------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Close; after a failure of the producer or a cancellation, without waiting for acks."""
        if isinstance(error, ProducerError) or not isinstance(error, Exception | None):
            await self.abort()
        else:
            await self.close()

    async def start(self) -> None:
        """Open the first stream; returns when the server has answered."""
        if self._delivering is not None or self._closed:
            raise RuntimeError("a producer starts once")
        self._delivering = asyncio.create_task(self._delivery.run(), name="stream-producer")
        try:
            while not self._delivery.streams_opened:
                await self._wait_for_progress()
        except BaseException:
            await self.abort()
            raise

    async def flush(self) -> None:
        """Wait until every event handed over so far is acked."""
        self._check_open()
        await self._flush()

    async def close(self) -> None:
        """Take no more events, wait for the last ack, then end the stream.

        Can be repeated, by several at a time too: each returns only if every event that was handed
        over is acked. Otherwise each raises what ended the producer, or RuntimeError if it was
        :meth:`abort` or the cancellation of a close, which ends the producer in the same way.
        """
        self._closed = True
        self._delivery.progress.set()
        if self._delivering is None:
            return
        try:
            await self._flush()
            self._delivery.finish()
            await asyncio.wait([self._delivering], timeout=END_SECONDS)
        finally:
            await self.abort()

    async def abort(self, wait_seconds: float = 0.0) -> None:
        """End without sending what is only buffered; wait so long for acks of what is in flight.

        Batches without ack may or may not be stored; if there are any, whoever waits for an ack,
        and every close from now on, raises RuntimeError.
        """
        self._closed = True
        self._delivery.hold()
        self._delivery.progress.set()
        if wait_seconds and self._delivering is not None:
            with contextlib.suppress(TimeoutError, ProducerError):
                async with asyncio.timeout(wait_seconds):
                    while self._outbox.in_flight:
                        await self._wait_for_progress()
        self._aborted = True
        self._delivery.progress.set()
        if self._sealing is not None:
            self._sealing.cancel()
        if self._delivering is not None:
            self._delivering.cancel()
            await asyncio.gather(self._delivering, return_exceptions=True)

    async def _flush(self) -> None:
        self._seal()
        target = self._outbox.last_sealed
        while self._outbox.last_acked < target:
            await self._wait_for_progress()
        self._raise_failure()  # of the very last ack, or of the stream after it

    # --- what there is to know -----------------------------------------------------------------

    @property
    def resumed_sequence(self) -> int:
        """The last batch that the server had committed for this id when the producer started."""
        return int(self._delivery.resumed.last_sequence)

    @property
    def resumed_accepted(self) -> int:
        """How many events of the batches up to ``resumed_sequence`` are stored."""
        return int(self._delivery.resumed.accepted)

    @property
    def resumed_rejected(self) -> int:
        """How many events of those batches were rejected, for good."""
        return int(self._delivery.resumed.rejected)

    @property
    def resumed_events(self) -> int:
        """How many events those batches had: so many are judged, and not to be sent again."""
        return self.resumed_accepted + self.resumed_rejected

    @property
    def metrics(self) -> ProducerMetrics:
        """How things stand."""
        outbox, delivery = self._outbox, self._delivery
        return ProducerMetrics(
            sent=outbox.added,
            acked=delivery.accepted + delivery.rejected + delivery.duplicate,
            accepted=delivery.accepted,
            rejected=delivery.rejected,
            duplicate=delivery.duplicate,
            duplicate_rejected=delivery.duplicate_rejected,
            buffered=outbox.buffered_events,
            in_flight_batches=outbox.in_flight,
            reconnects=max(0, delivery.streams_opened - 1),
            quota_left=delivery.quota_left,
            last_sequence=outbox.last_acked,
        )

    # --- handing events over -------------------------------------------------------------------

    async def send(self, event: Event) -> int:
        """Hand an event over; returns its number. Waits while the buffer is full.

        A mapping is the JSON form of the REST API, with metadata as a value or as the bytes of its
        text. ValueError if the message has no place for what it says. If this is cancelled, the
        event was not taken.
        """
        message, size = _sized(event)
        async with self._turn:
            if not self._outbox.fits(size):
                self._seal()
            await self._wait_for_room(1, size)
            number = self._outbox.add(message, size)
            if not self._outbox.fits(EVENT_ENVELOPE_BYTES):
                self._seal()
            elif self._sealing is None:
                loop = asyncio.get_running_loop()
                self._sealing = loop.call_later(self._max_batch_seconds, self._seal)
        return number

    async def send_batch(self, events: Iterable[Event]) -> int:
        """Hand over events that are one batch, whatever the limits of this producer's own.

        Returns the batch's sequence; otherwise as :meth:`send`. ValueError, too, if the events are
        none, over 500, or over what a message holds; then none of them was taken.
        """
        messages = [_sized(event) for event in events]
        size = sum(size for _, size in messages)
        if not 1 <= len(messages) <= MAX_BATCH_EVENTS:
            raise ValueError(f"a batch has 1 to {MAX_BATCH_EVENTS} events, not {len(messages)}")
        if size > MAX_EVENTS_BYTES:
            raise ValueError(f"a batch has at most {MAX_EVENTS_BYTES} bytes, not {size}")
        async with self._turn:
            self._seal()
            await self._wait_for_room(len(messages), size)
            for message, its_size in messages:
                self._outbox.add(message, its_size)
            self._seal()
            return self._outbox.last_sealed

    async def _wait_for_room(self, events: int, size: int) -> None:
        self._check_open()
        if self._owes_turn:  # who never waits for room would leave no time to send
            self._owes_turn = False
            await asyncio.sleep(0)
            self._check_open()
        outbox = self._outbox
        while outbox.buffered_events and (
            outbox.buffered_events + events > self._max_buffered_events
            or outbox.buffered_bytes + size > self._max_buffered_bytes
        ):
            self._seal()  # while its sender waits, nobody adds to it
            await self._wait_for_progress()
            self._check_open()

    def _seal(self) -> None:
        if self._sealing is not None:
            self._sealing.cancel()
            self._sealing = None
        if self._outbox.seal():
            self._owes_turn = True
            self._delivery.work.set()

    async def _wait_for_progress(self) -> None:
        self._check_going()
        self._delivery.progress.clear()
        await self._delivery.progress.wait()
        self._check_going()

    def _raise_failure(self) -> None:
        if self._delivery.failure is not None:
            raise self._delivery.failure

    def _check_going(self) -> None:
        self._raise_failure()
        if self._aborted:
            raise RuntimeError("the producer was ended before its last ack")

    def _check_open(self) -> None:
        self._raise_failure()
        if self._delivering is None or self._closed:
            raise RuntimeError("the producer is not open")


def _sized(event: Event) -> tuple[pb.IngestEvent, int]:
    message = event if isinstance(event, pb.IngestEvent) else event_json.from_mapping(event)
    size = message.ByteSize() + EVENT_ENVELOPE_BYTES
    if size > MAX_EVENTS_BYTES:
        raise ValueError(f"an event has at most {MAX_EVENTS_BYTES} bytes, not {size}")
    return message, size
