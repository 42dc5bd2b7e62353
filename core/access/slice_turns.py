"""Long work of all organizations, a slice at a time: whoever has used least time goes first.

Slices are not of one length, and nobody knows it before. So turns are shared by the time that they
took, and not by their number: a flood of dear requests makes its own organization wait.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final, TypeVar

from core.access.fair_queue import Flow
from core.slices import Sliced

T = TypeVar("T")

# On average. A longer slice is followed by turns without any, which others have for themselves: a
# stored request takes dozens of turns.
SLICE_SECONDS_A_TURN: Final = 0.002


class SliceTurns:
    """Does long work in slices, at most one of them in a turn of the event loop.

    ``cpu_seconds``: a clock that stands still while the process has no processor.
    """

    def __init__(self, cpu_seconds: Callable[[], float] = time.thread_time) -> None:
        self._cpu_seconds = cpu_seconds
        self._waiting: dict[Flow, deque[asyncio.Future[None]]] = {}
        self._is_busy = False  # a slice is being done, or made up for
        self._owed = 0.0  # seconds to be made up for by turns without a slice
        # The seconds that each flow has used, and what the last one to begin had. A flow that comes
        # again has no advantage from the time in which it had nothing to do.
        self._used: dict[Flow, float] = {}
        self._least = 0.0

    async def run(self, flow: Flow, work: Sliced[T]) -> T:
        """Do the work, each of its slices in a turn of the flow, and return its result."""
        while True:
            await self._turn(flow)
            begin = self._cpu_seconds()
            try:
                next(work)
            except StopIteration as end:
                result: T = end.value
                return result
            finally:
                self._end_turn(flow, self._cpu_seconds() - begin)

    async def _turn(self, flow: Flow) -> None:
        if not self._is_busy:
            self._is_busy = True
            self._begin(flow)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(flow, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it had come already
                self._end_turn(flow, 0.0)
            raise

    def _begin(self, flow: Flow) -> None:
        self._least = self._rank(flow)
        self._used[flow] = self._least

    def _rank(self, flow: Flow) -> float:
        return max(self._used.get(flow, 0.0), self._least)

    def _end_turn(self, flow: Flow, seconds: float) -> None:
        self._used[flow] += seconds
        self._owed += seconds
        asyncio.get_running_loop().call_soon(self._renew)

    def _renew(self) -> None:
        """Begin the next slice, once turns enough have passed without any."""
        self._owed = max(self._owed - SLICE_SECONDS_A_TURN, 0.0)
        if self._owed:
            asyncio.get_running_loop().call_soon(self._renew)
            return
        while self._waiting:
            flow = min(self._waiting, key=self._rank)
            turns = self._waiting[flow]
            turn = turns.popleft()
            if not turns:
                del self._waiting[flow]
            if not turn.cancelled():
                self._begin(flow)
                turn.set_result(None)
                return
        self._is_busy = False
        self._used.clear()
        self._least = 0.0
