"""Bounds on the memory of a process that work without an answer yet may take.

Each is shared among organizations (core/access/shared_budget.py).
"""

from __future__ import annotations

from typing import Final

MAX_REQUEST_BYTES: Final = 256 * 1_048_576  # of all single requests together
# Streamed batches are counted by their events, each of which stands for so many bytes at most, and
# a batch itself for so many events. One flow alone gets three transactions' worth of events: one is
# written, the others wait. More would have left the processor's caches when its turn comes.
MAX_STREAMED_EVENTS: Final = 48_000
STREAMED_EVENT_BYTES: Final = 2_048
STREAMED_BATCH_EVENTS: Final = 50
# An open stream reads, and what is read arrives whole: up to 1.25 MiB before anybody sees it, and
# once more with what it has read ahead (grpc_api/read_ahead.py).
MAX_OPEN_STREAMS: Final = 256
# Estimates of the memory of a single request beside its body: of itself, and of an event's row.
REQUEST_BYTES: Final = 8_192
EVENT_BYTES: Final = 400


def request_bytes(body_bytes: int, events: int) -> int:
    """The estimated memory of a single request: its body, and as much again in rows."""
    return REQUEST_BYTES + 2 * body_bytes + EVENT_BYTES * events


def streamed_events(message_bytes: int, events: int) -> int:
    """The events of ``MAX_STREAMED_EVENTS`` that a batch takes."""
    return STREAMED_BATCH_EVENTS + max(events, message_bytes // STREAMED_EVENT_BYTES)
