"""Held drafts: all that have no answer yet, and the memory that they may take."""

from __future__ import annotations

import itertools
from typing import Final

from core.errors import IngestError, unavailable
from core.journal.pending import PendingRequest

# Of all drafts that have no answer yet: in a queue, in a lane or being written.
MAX_HELD_REQUESTS: Final = 2_000
MAX_HELD_BYTES: Final = 128 * 1_048_576


def overloaded() -> IngestError:
    """What a client is told whose draft nobody gets to in time."""
    return unavailable("The service is overloaded. Retry shortly.")


class HeldRequests:
    """The drafts without an answer, bounded in number and in bytes."""

    def __init__(self) -> None:
        self._drafts: dict[PendingRequest, None] = {}  # in the order in which they came
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._drafts)

    def add(self, draft: PendingRequest) -> None:
        """Hold a draft until it is answered; raises ``internal_error`` if there is no room."""
        if (
            len(self._drafts) >= MAX_HELD_REQUESTS
            or self._bytes + draft.size_bytes > MAX_HELD_BYTES
        ):
            raise overloaded()
        self._drafts[draft] = None
        self._bytes += draft.size_bytes

    def remove(self, draft: PendingRequest) -> None:
        """Hold a draft no longer."""
        del self._drafts[draft]
        self._bytes -= draft.size_bytes

    def given_up_by(self, moment: float) -> list[PendingRequest]:
        """The drafts whose ``give_up_at`` is not after the moment, the first ones first."""
        return list(itertools.takewhile(lambda one: one.give_up_at <= moment, self._drafts))
