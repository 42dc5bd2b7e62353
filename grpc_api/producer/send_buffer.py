"""A producer's outbox: the batch being filled, and those that have no ack yet. No I/O.

A batch is serialized when it is sealed and keeps its sequence and its bytes until it is known to
be committed, so that what is sent again is what was sent before.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from core.limits import MAX_BODY_BYTES
from grpc_api.pb import ingest_pb2 as pb

# Around the events of a batch: two tags, a length, a sequence of up to ten bytes.
ENVELOPE_BYTES: Final = 32
# Around each event: a tag and a length of up to three bytes.
EVENT_ENVELOPE_BYTES: Final = 4
MAX_EVENTS_BYTES: Final = MAX_BODY_BYTES - ENVELOPE_BYTES


@dataclass(frozen=True, slots=True)
class Batch:
    """A sealed batch. ``first_number`` is the running number of its first event."""

    sequence: int
    first_number: int
    count: int
    message: bytes  # a StreamEventsRequest

    def events(self) -> list[pb.IngestEvent]:
        """Its events, parsed again: they are asked for only if some were rejected."""
        return list(pb.StreamEventsRequest.FromString(self.message).batch.events)


class SequenceLostError(Exception):
    """What the server has committed and what this producer has sent do not fit together."""


class Outbox:
    """Events from the moment they are handed over until their batch is known to be committed."""

    def __init__(self, max_batch_events: int) -> None:
        self._max_batch_events = max_batch_events
        self._unacked: deque[Batch] = deque()
        self._open = pb.StreamEventsRequest()
        self._open_bytes = 0
        self.in_flight = 0  # of the unacked ones, how many the present stream was given
        self.last_acked = 0  # a sequence
        self.last_sealed = 0  # a sequence
        self.added = 0  # events, ever
        self.buffered_events = 0
        self.buffered_bytes = 0

    def start(self, last_sequence: int) -> None:
        """Number batches from the one after the last that was committed."""
        self.last_acked = self.last_sealed = last_sequence

    @property
    def open_events(self) -> int:
        """How many events the batch being filled has."""
        return len(self._open.batch.events)

    @property
    def unacked_batches(self) -> int:
        """How many sealed batches are not known to be committed."""
        return len(self._unacked)

    def fits(self, size: int) -> bool:
        """Whether an event of so many bytes has room in the batch being filled."""
        return (
            self.open_events < self._max_batch_events
            and self._open_bytes + size <= MAX_EVENTS_BYTES
        )

    def add(self, event: pb.IngestEvent, size: int) -> int:
        """Copy an event that fits into the batch being filled; returns its running number."""
        self._open.batch.events.append(event)
        self._open_bytes += size
        self.buffered_bytes += size
        self.buffered_events += 1
        self.added += 1
        return self.added

    def seal(self) -> bool:
        """Number the batch being filled and begin the next one; False if it is empty."""
        count = self.open_events
        if not count:
            return False
        self.last_sealed += 1
        self._open.batch.sequence = self.last_sealed
        message = self._open.SerializeToString()
        self._unacked.append(Batch(self.last_sealed, self.added - count + 1, count, message))
        self.buffered_bytes += len(message) - self._open_bytes
        self._open = pb.StreamEventsRequest()
        self._open_bytes = 0
        return True

    def next_to_send(self, window: int) -> Batch | None:
        """The oldest batch that the present stream was not given, if the window has room."""
        if self.in_flight >= min(window, len(self._unacked)):
            return None
        batch = self._unacked[self.in_flight]
        self.in_flight += 1
        return batch

    def take_acked(self, sequence: int) -> Batch:
        """Let go of the batch that an ack is about: always the oldest in flight."""
        if not self.in_flight or self._unacked[0].sequence != sequence:
            raise SequenceLostError(f"the server acked batch {sequence} out of turn")
        self.in_flight -= 1
        return self._let_go()

    def resume(self, last_sequence: int) -> list[Batch]:
        """Begin a new stream; returns the batches that turn out to be committed already.

        The others are given to it again, unchanged. Raises :class:`SequenceLostError` if the
        server is behind what it has acked or ahead of what was sent.
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
            committed.append(self._let_go())
        return committed

    def _let_go(self) -> Batch:
        batch = self._unacked.popleft()
        self.last_acked = batch.sequence
        self.buffered_events -= batch.count
        self.buffered_bytes -= len(batch.message)
        return batch
