"""A client for programs that send many events: batches, acks, reconnects, exactly once.

    async with StreamProducer("ingest:50051", api_key, "crm-export") as producer:
        async for event in source:
            await producer.send(event)

Once ``flush`` or ``close`` returns, every event that was handed over before is judged. The
accepted ones are stored durably and once, even if connections or servers failed meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Final, Self

from wepeople_ingest_client.limits import MAX_BATCH_EVENTS
from wepeople_ingest_client.pb import ingest_pb2 as pb
from wepeople_ingest_client.stream import event_json, metrics
from wepeople_ingest_client.stream.endpoint import Endpoint
from wepeople_ingest_client.stream.event_json import Event
from wepeople_ingest_client.stream.metrics import ProducerMetrics
from wepeople_ingest_client.stream.send_buffer import (
    EVENT_ENVELOPE_BYTES,
    MAX_EVENTS_BYTES,
    SendBuffer,
    event_size,
)
from wepeople_ingest_client.stream.sender import OnRejected, Sender
from wepeople_ingest_client.stream.status import ProducerError
from wepeople_ingest_client.stream.tls import Tls

DEFAULT_BATCH_SECONDS: Final = 0.1
DEFAULT_MAX_IN_FLIGHT: Final = 32
DEFAULT_MAX_BUFFERED_EVENTS: Final = 20_000
DEFAULT_MAX_BUFFERED_BYTES: Final = 32 * 1_048_576
END_SECONDS: Final = 5.0  # for the server's status, once every batch is acked


class StreamProducer:
    """Sends events in the name of a producer, each of them exactly once.

    **Batches.** :meth:`send` fills a batch up to ``max_batch_events`` events or the size of a
    message. A batch that is not full is sent after ``max_batch_seconds``. A batch without an ack
    stays in memory and is sent again, unchanged, after a disconnect.

    **Back-pressure.** At most ``max_buffered_events`` events and ``max_buffered_bytes`` bytes wait
    in memory for their acks. :meth:`send` waits while the buffer is full. An empty buffer takes one
    batch of any size.

    **Rejected events** are final. ``on_rejected(number, event, code, message)`` is called for each;
    events are numbered from 1 in the order they are handed over. The callback runs in the event
    loop and must not block; an exception of its own ends the producer. If a connection is lost
    between a commit and its ack, the events of the batch count as ``duplicate``: the number of
    those rejected is known, but not which.

    **Failures** that pass (connection lost, server restarting, rate limit) are met by opening
    another stream, after the RetryInfo of the status and a backoff. This goes on for ever, or for
    ``give_up_after_seconds`` without progress. Failures that do not pass (key revoked, plan
    disabled, another producer of the same id, a certificate that one side does not accept) are
    raised as :class:`ProducerError` by every method but :meth:`abort`. The producer cannot be used
    any more then, and batches without an ack may or may not be stored.

    **Restarts.** Sequences continue after the last batch that the server has committed for the
    producer id, :attr:`resumed_sequence`. A program that wants exactly once across its own restarts
    hands over the same events in the same order every time and begins after the first
    :attr:`resumed_events` of them. It may cut them into other batches. One program at a time uses
    a producer id: a second one ends the first.
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
        tls: Tls | None = None,
        give_up_after_seconds: float | None = None,
    ) -> None:
        """``target`` is HOST:PORT. Nothing is encrypted without ``tls``.

        Raises ValueError if an option is out of its range.
        """
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
        self._buffer = SendBuffer(max_batch_events)
        self._sender = Sender(
            Endpoint(target, api_key, tls),
            producer_id,
            self._buffer,
            max_in_flight=max_in_flight,
            on_rejected=on_rejected,
            give_up_after_seconds=give_up_after_seconds,
        )
        self._handing_over = asyncio.Lock()  # serves callers in the order they came
        self._sending: asyncio.Task[None] | None = None
        self._seal_timer: asyncio.TimerHandle | None = None
        self._must_yield = False
        self._closed = False  # takes no more events

    # --- beginning and end ---------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Close; after a :class:`ProducerError` or a cancellation, :meth:`abort` instead."""
        if isinstance(error, ProducerError) or not isinstance(error, Exception | None):
            await self.abort()
        else:
            await self.close()

    async def start(self) -> None:
        """Open the first stream; returns when the server has answered.

        Raises :class:`ProducerError` if no stream can be opened, OSError if a file for TLS cannot
        be used, RuntimeError if called twice.
        """
        if self._sending is not None or self._closed:
            raise RuntimeError("a producer starts once")
        self._sending = asyncio.create_task(self._sender.run(), name="stream-producer")
        try:
            while not self._sender.streams_opened:
                await self._sender.wait_for_progress()
        except BaseException:
            await self.abort()
            raise

    async def flush(self) -> None:
        """Wait until every event handed over so far is acked."""
        self._check_open()
        await self._flush()

    async def close(self) -> None:
        """Take no more events, wait for the last ack, then end the stream.

        Several callers may close, at the same time or again. A call returns only if every event
        that was handed over is acked. Otherwise it raises the failure that ended the producer, or
        RuntimeError after :meth:`abort`. The cancellation of a close ends the producer as an abort.
        """
        self._closed = True
        self._sender.progress.set()
        if self._sending is None:
            return
        try:
            await self._flush()
            self._sender.finish()
            await asyncio.wait([self._sending], timeout=END_SECONDS)
        finally:
            await self.abort()

    async def abort(self, wait_seconds: float = 0.0) -> None:
        """End without sending the batches that are not in flight.

        Waits up to ``wait_seconds`` for the acks of those that are. Batches without an ack may or
        may not be stored: if there are any, every caller that waits for an ack and every later
        :meth:`close` raises RuntimeError.
        """
        self._closed = True
        self._sender.pause()
        self._sender.progress.set()
        if wait_seconds and self._sending is not None:
            with contextlib.suppress(TimeoutError, ProducerError):
                async with asyncio.timeout(wait_seconds):
                    while self._buffer.in_flight:
                        await self._sender.wait_for_progress()
        self._sender.abort()
        if self._seal_timer is not None:
            self._seal_timer.cancel()
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.gather(self._sending, return_exceptions=True)

    async def _flush(self) -> None:
        self._seal()
        target = self._buffer.last_sealed
        while self._buffer.last_acked < target:
            await self._sender.wait_for_progress()
        self._sender.raise_failure()  # handling the very last ack may have failed

    # --- figures -------------------------------------------------------------------------------

    @property
    def resumed_sequence(self) -> int:
        """The last batch that the server had committed for this id when the producer started."""
        return int(self._sender.resumed.last_sequence)

    @property
    def resumed_accepted(self) -> int:
        """The number of events in the batches up to ``resumed_sequence`` that are stored."""
        return int(self._sender.resumed.accepted)

    @property
    def resumed_rejected(self) -> int:
        """The number of events in those batches that were rejected, for good."""
        return int(self._sender.resumed.rejected)

    @property
    def resumed_events(self) -> int:
        """The number of events in those batches: they are judged and must not be sent again."""
        return self.resumed_accepted + self.resumed_rejected

    @property
    def metrics(self) -> ProducerMetrics:
        """The figures of this moment."""
        return metrics.current(self._buffer, self._sender)

    # --- handing events over -------------------------------------------------------------------

    async def send(self, event: Event) -> int:
        """Hand an event over; returns its number. Waits while the buffer is full.

        The event is an ``Event``, a message, or a mapping in the JSON form of the REST API, whose
        metadata may be JSON text as bytes. Raises ValueError if the event cannot be written as a
        message, RuntimeError before :meth:`start` has returned and after :meth:`close`. If this is
        cancelled, the event was not taken.
        """
        message, size = _sized(event)
        async with self._handing_over:
            if not self._buffer.fits(size):
                self._seal()
            await self._wait_for_room(1, size)
            number = self._buffer.add(message, size)
            if not self._buffer.fits(EVENT_ENVELOPE_BYTES):
                self._seal()
            elif self._seal_timer is None:
                loop = asyncio.get_running_loop()
                self._seal_timer = loop.call_later(self._max_batch_seconds, self._seal)
        return number

    async def send_batch(self, events: Iterable[Event]) -> int:
        """Hand over events as one batch, whatever ``max_batch_events`` is; returns its sequence.

        Waits and fails as :meth:`send`. Raises ValueError, too, if the events are none, more than
        500 or larger than a message; none of them was taken then.
        """
        messages = [_sized(event) for event in events]
        size = sum(size for _, size in messages)
        if not 1 <= len(messages) <= MAX_BATCH_EVENTS:
            raise ValueError(f"a batch has 1 to {MAX_BATCH_EVENTS} events, not {len(messages)}")
        if size > MAX_EVENTS_BYTES:
            raise ValueError(f"a batch has at most {MAX_EVENTS_BYTES} bytes, not {size}")
        async with self._handing_over:
            self._seal()
            await self._wait_for_room(len(messages), size)
            for message, its_size in messages:
                self._buffer.add(message, its_size)
            self._seal()
            return self._buffer.last_sealed

    async def _wait_for_room(self, events: int, size: int) -> None:
        self._check_open()
        if self._must_yield:  # a caller that never waits would leave the sender no time
            self._must_yield = False
            await asyncio.sleep(0)
            self._check_open()
        buffer = self._buffer
        while buffer.buffered_events and (
            buffer.buffered_events + events > self._max_buffered_events
            or buffer.buffered_bytes + size > self._max_buffered_bytes
        ):
            self._seal()  # nobody adds to the open batch while this caller waits
            await self._sender.wait_for_progress()
            self._check_open()

    def _seal(self) -> None:
        if self._seal_timer is not None:
            self._seal_timer.cancel()
            self._seal_timer = None
        if self._buffer.seal():
            self._must_yield = True
            self._sender.work.set()

    def _check_open(self) -> None:
        self._sender.raise_failure()
        # Until the server has told its last sequence, a batch would get one that is taken already.
        if self._closed or not self._sender.streams_opened:
            raise RuntimeError("the producer is not open")


def _sized(event: Event) -> tuple[pb.IngestEvent, int]:
    message = event_json.to_message(event)
    return message, event_size(message)
