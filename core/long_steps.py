"""Long steps: reading and judging batches, which hold up the event loop, a few events in each turn.

In one turn the loop runs all that is ready, and who becomes ready meanwhile waits for the next. A
small request takes some five turns from its arrival to its answer: if each had the batches of
several streams in it, it would wait for all of them five times.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

MIN_LONG_EVENTS: Final = 50  # fewer take hardly longer than all the rest of a request
MAX_TURN_EVENTS: Final = 500  # begun in one turn of the loop, but for a batch that has more


class LongSteps:
    """Lets steps begin in the order in which they were asked for, some in each turn of the loop."""

    def __init__(self) -> None:
        self._left = MAX_TURN_EVENTS
        self._renewing = False
        self._waking = 0  # may begin, and have not been run yet
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def begin(self, events: int) -> None:
        """Return when a step about so many events may be made, which is to follow at once.

        Steps that follow at once are made in the order of these calls.
        """
        if self._left > 0 and not (self._waiting or self._waking):
            self._take(events)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((events, turn))
        try:
            await turn
        finally:
            if turn.done() and not turn.cancelled():
                self._waking -= 1

    def _take(self, events: int) -> None:
        self._left -= events
        if not self._renewing:
            self._renewing = True
            asyncio.get_running_loop().call_soon(self._renew)

    def _renew(self) -> None:
        """Begin a turn."""
        self._left = MAX_TURN_EVENTS
        self._renewing = False
        while self._waiting and self._left > 0:
            events, turn = self._waiting.popleft()
            if not turn.cancelled():
                self._waking += 1
                turn.set_result(None)
                self._take(events)
