"""Long steps: reading and judging batches, which holds up the event loop, so many events a turn.

In one turn the loop runs all that is ready, and what becomes ready meanwhile waits for the next. A
small request takes some five turns from its arrival to its answer: if each had the batches of
several streams in it, it would wait for all of them five times.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

MIN_LONG_EVENTS: Final = 50  # fewer take hardly longer than all the rest of a request
MAX_WAITING_STEPS: Final = 1_000  # for requests, which are to be answered in time
MAX_TURN_EVENTS: Final = 500  # on average; a step of more is followed by turns without any


class LongSteps:
    """Lets steps begin in the order in which they were asked for, some in each turn of the loop."""

    def __init__(self) -> None:
        self._left = MAX_TURN_EVENTS  # of this turn; less than none after a large step
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def waiting(self) -> int:
        """The number of steps that wait to begin."""
        return len(self._waiting)

    async def begin(self, events: int) -> None:
        """Return when a step of so many events may be made; the caller is to make it at once."""
        if self._left > 0:  # and so nobody waits
            if events and self._left == MAX_TURN_EVENTS:  # else the next turn is coming already
                self._renew_later()
            self._left -= events
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((events, turn))
        await turn

    def _renew_later(self) -> None:
        asyncio.get_running_loop().call_soon(self._renew)

    def _renew(self) -> None:
        """Begin a turn; there are more to come until all that was taken is made up for."""
        self._left = min(self._left + MAX_TURN_EVENTS, MAX_TURN_EVENTS)
        while self._waiting and self._left > 0:
            events, turn = self._waiting.popleft()
            if not turn.cancelled():
                turn.set_result(None)
                self._left -= events
        if self._left < MAX_TURN_EVENTS:
            self._renew_later()
