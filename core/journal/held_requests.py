"""Held requests: all that have no answer yet, and the memory that they may take."""

from __future__ import annotations

import itertools
from typing import Final

from core.errors import IngestError, unavailable
from core.journal.pending import PendingRequest

# Bounds of all requests without an answer: in a queue, in a lock wait or being written.
MAX_HELD_REQUESTS: Final = 2_000
MAX_HELD_BYTES: Final = 128 * 1_048_576


def overloaded() -> IngestError:
    """The refusal of a request for which there is no room, or which is not begun in time."""
    return unavailable("The service is overloaded. Retry shortly.")


class HeldRequests:
    """The requests without an answer, bounded in number and in bytes."""

    def __init__(self) -> None:
        self._requests: dict[PendingRequest, None] = {}  # in the order in which they came
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._requests)

    def add(self, request: PendingRequest) -> None:
        """Hold a request until it is answered; raises ``internal_error`` if there is no room."""
        if (
            len(self._requests) >= MAX_HELD_REQUESTS
            or self._bytes + request.size_bytes > MAX_HELD_BYTES
        ):
            raise overloaded()
        self._requests[request] = None
        self._bytes += request.size_bytes

    def remove(self, request: PendingRequest) -> None:
        """Hold a request no longer."""
        del self._requests[request]
        self._bytes -= request.size_bytes

    def due_by(self, moment: float) -> list[PendingRequest]:
        """The requests whose ``give_up_at`` is not after the moment, the earliest first."""
        return list(itertools.takewhile(lambda one: one.give_up_at <= moment, self._requests))
