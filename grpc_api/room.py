"""Room for the batches of all streams that are read but not committed, by number and bytes."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from core.journal.held_requests import MAX_HELD_BYTES

# A journal that is full refuses requests, but streams should be slowed down instead. Usually the
# journal does so by asking for no more. These bounds matter when batches wait for locks that other
# processes hold.
MAX_IN_FLIGHT_TOGETHER: Final = 256
# The other half is left to unary calls and HTTP.
MAX_IN_FLIGHT_BYTES: Final = MAX_HELD_BYTES // 2


class Room:
    """Lets batches in, first come, first served, while there is room by number and by bytes.

    Small batches do not overtake a large one that waits. A batch larger than the whole room is let
    in alone.
    """

    def __init__(self) -> None:
        self._batches_left = MAX_IN_FLIGHT_TOGETHER
        self._bytes_left = MAX_IN_FLIGHT_BYTES
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def enter(self, size_bytes: int) -> bool:
        """Wait for a place, which :meth:`leave` gives back; returns whether this had to wait.

        Takes no place if cancelled.
        """
        size_bytes = min(size_bytes, MAX_IN_FLIGHT_BYTES)
        if not self._waiting and self._fits(size_bytes):
            self._reserve(size_bytes)
            return False
        entry: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size_bytes, entry))
        try:
            await entry
        except asyncio.CancelledError:
            if not entry.cancelled():  # it was let in before it was cancelled
                self.leave(size_bytes)
            else:
                self._let_in()  # the batches that waited behind it
            raise
        return True

    def leave(self, size_bytes: int) -> None:
        """Give a place back."""
        self._batches_left += 1
        self._bytes_left += min(size_bytes, MAX_IN_FLIGHT_BYTES)
        self._let_in()

    def _let_in(self) -> None:
        while self._waiting:
            size_bytes, entry = self._waiting[0]
            if not entry.cancelled():
                if not self._fits(size_bytes):
                    return
                self._reserve(size_bytes)
                entry.set_result(None)
            self._waiting.popleft()

    def _fits(self, size_bytes: int) -> bool:
        return self._batches_left > 0 and size_bytes <= self._bytes_left

    def _reserve(self, size_bytes: int) -> None:
        self._batches_left -= 1
        self._bytes_left -= size_bytes
