"""Room: places for the batches of all streams on their way to the disk."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from core.journal.held_requests import MAX_HELD_BYTES

# Without a bound many streams would fill what the journal may hold, which then refuses drafts, and
# streams are to be slowed down instead. Usually they are so by what the journal wants; these are
# for what waits for locks that other processes hold.
MAX_IN_FLIGHT_TOGETHER: Final = 256
# The other half is for unary calls and HTTP.
MAX_IN_FLIGHT_BYTES: Final = MAX_HELD_BYTES // 2


class Room:
    """Lets batches in while there is room by number and by size, first come, first served.

    A large batch that waits is not overtaken by smaller ones. One that is larger than all the room
    takes it alone.
    """

    def __init__(self) -> None:
        self._batches_left = MAX_IN_FLIGHT_TOGETHER
        self._bytes_left = MAX_IN_FLIGHT_BYTES
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def enter(self, size_bytes: int) -> bool:
        """Take a place, which :meth:`leave` gives back; tells whether that took a wait.

        Takes none if cancelled.
        """
        size_bytes = min(size_bytes, MAX_IN_FLIGHT_BYTES)
        if not self._waiting and self._fits(size_bytes):
            self._take(size_bytes)
            return False
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size_bytes, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it had its place already
                self.leave(size_bytes)
            else:
                self._let_in()  # those that waited behind it
            raise
        return True

    def leave(self, size_bytes: int) -> None:
        """Give a place back."""
        self._batches_left += 1
        self._bytes_left += min(size_bytes, MAX_IN_FLIGHT_BYTES)
        self._let_in()

    def _let_in(self) -> None:
        while self._waiting:
            size_bytes, turn = self._waiting[0]
            if not turn.cancelled():
                if not self._fits(size_bytes):
                    return
                self._take(size_bytes)
                turn.set_result(None)
            self._waiting.popleft()

    def _fits(self, size_bytes: int) -> bool:
        return self._batches_left > 0 and size_bytes <= self._bytes_left

    def _take(self, size_bytes: int) -> None:
        self._batches_left -= 1
        self._bytes_left -= size_bytes
