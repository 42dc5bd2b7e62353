"""The events of a producer that have no ack yet: in the open batch, or in sealed ones. No I/O.

Sealing gives a batch its sequence and serializes it. Both stay until the batch is known to be
committed, so that a batch that is sent again has the same bytes.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from wepeople_ingest_client.limits import MAX_REQUEST_BYTES
from wepeople_ingest_client.pb import ingest_pb2 as pb

# Around the events of a batch: two tags, a length, a sequence of up to ten bytes.
ENVELOPE_BYTES: Final = 32
# Around each event: a tag and a length of up to three bytes.
EVENT_ENVELOPE_BYTES: Final = 4
MAX_EVENTS_BYTES: Final = MAX_REQUEST_BYTES - ENVELOPE_BYTES


def event_size(event: pb.IngestEvent) -> int:
    """The bytes that an event takes in a batch. Raises ValueError if no message holds so many."""
    size = event.ByteSize() + EVENT_ENVELOPE_BYTES
    if size > MAX_EVENTS_BYTES:
        raise ValueError(f"an event has at most {MAX_EVENTS_BYTES} bytes, not {size}")
    return size


@dataclass(frozen=True, slots=True)
class SealedBatch:
    """A batch with its sequence. ``first_number`` is the running number of its first event."""

    sequence: int
    first_number: int
    count: int
    message: bytes  # an encoded StreamEventsRequest

    def events(self) -> list[pb.IngestEvent]:
        """The events, parsed from ``message``: they are needed only if some were rejected."""
        return list(pb.StreamEventsRequest.FromString(self.message).batch.events)


class SequenceLostError(Exception):
    """The sequence that the server tells contradicts what this producer has sent."""


class SendBuffer:
    """Holds events from the moment they are handed over until their batch is committed.

    ``start`` must be called once, before the first batch is sealed.
    """

    def __init__(self, max_batch_events: int) -> None:
        self._max_batch_events = max_batch_events
        self._unacked: deque[SealedBatch] = deque()
        self._open = pb.StreamEventsRequest()
        self._open_bytes = 0
        self.in_flight = 0  # unacked batches that the present stream was given
        self.last_acked = 0  # a sequence
        self.last_sealed = 0  # a sequence
        self.added = 0  # events, ever
        self.buffered_events = 0
        self.buffered_bytes = 0

    def start(self, last_sequence: int) -> None:
        """Number batches from the one after the last that the server has committed."""
        self.last_acked = self.last_sealed = last_sequence

    @property
    def open_events(self) -> int:
        """The number of events in the open batch."""
        return len(self._open.batch.events)

    @property
    def unacked_batches(self) -> int:
        """The number of sealed batches that are not known to be committed."""
        return len(self._unacked)

    def fits(self, size: int) -> bool:
        """Whether the open batch has room for an event of ``size`` bytes."""
        return (
            self.open_events < self._max_batch_events
            and self._open_bytes + size <= MAX_EVENTS_BYTES
        )

    def add(self, event: pb.IngestEvent, size: int) -> int:
        """Copy an event that fits into the open batch; returns its running number, from 1."""
        self._open.batch.events.append(event)
        self._open_bytes += size
        self.buffered_bytes += size
        self.buffered_events += 1
        self.added += 1
        return self.added

    def seal(self) -> bool:
        """Seal the open batch and begin another; False if it is empty."""
        count = self.open_events
        if not count:
            return False
        self.last_sealed += 1
        self._open.batch.sequence = self.last_sealed
        message = self._open.SerializeToString()
        self._unacked.append(SealedBatch(self.last_sealed, self.added - count + 1, count, message))
        self.buffered_bytes += len(message) - self._open_bytes
        self._open = pb.StreamEventsRequest()
        self._open_bytes = 0
        return True

    def next_to_send(self, window: int) -> SealedBatch | None:
        """The oldest batch that the present stream was not given.

        None if there is none, or if ``window`` batches are in flight already.
        """
        if self.in_flight >= min(window, len(self._unacked)):
            return None
        batch = self._unacked[self.in_flight]
        self.in_flight += 1
        return batch

    def acknowledge(self, sequence: int) -> SealedBatch:
        """Remove and return the batch of an ack.

        Acks come in order: raises :class:`SequenceLostError` if this is not the oldest in flight.
        """
        if not self.in_flight or self._unacked[0].sequence != sequence:
            raise SequenceLostError(f"the server acked batch {sequence} out of turn")
        self.in_flight -= 1
        return self._remove_oldest()

    def resume(self, last_sequence: int) -> list[SealedBatch]:
        """Begin another stream; remove and return the batches that the server had committed.

        The others are sent again, unchanged. Raises :class:`SequenceLostError` if the server's
        last sequence is below its last ack or above the last batch that was sealed.
        """
        if not self.last_acked <= last_sequence <= self.last_sealed:
            raise SequenceLostError(
                f"the server's last batch is {last_sequence}, this producer's is "
                f"{self.last_acked} acked and {self.last_sealed} made: another one has used its id,"
                " or the server has lost what it had committed"
            )
        self.in_flight = 0
        committed = []
        while self._unacked and self._unacked[0].sequence <= last_sequence:
            committed.append(self._remove_oldest())
        return committed

    def _remove_oldest(self) -> SealedBatch:
        batch = self._unacked.popleft()
        self.last_acked = batch.sequence
        self.buffered_events -= batch.count
        self.buffered_bytes -= len(batch.message)
        return batch
