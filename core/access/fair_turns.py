"""Turns of the event loop, shared fairly among organizations.

In one turn the loop runs all that is ready, and work that becomes ready meanwhile waits for the
next. A stored request takes dozens of turns, so each turn may begin few of them.
"""

from __future__ import annotations

import asyncio

from core.access.fair_queue import FairQueue, Flow
from core.access.shared_budget import SharedBudget, overloaded


class FairTurns:
    """Lets steps begin, so many units of work in each turn of the event loop, of each flow in turn.

    ``waiting``: the places of steps that wait; the share of a flow that waits with more is refused.
    """

    def __init__(self, units_a_turn: int, waiting: SharedBudget) -> None:
        self._units_a_turn = units_a_turn
        self._left = units_a_turn  # of this turn; less than none after a large step
        self._places = waiting
        self._waiting: FairQueue[tuple[int, asyncio.Future[None]]] = FairQueue()

    async def begin(self, flow: Flow, units: int = 1) -> None:
        """Return when the step may be made; the caller is to make it at once.

        Raises ``internal_error``, transient, if too many steps of the flow wait.
        """
        if self._left > 0:  # so nobody waits
            if self._left == self._units_a_turn:  # else the next turn is coming already
                asyncio.get_running_loop().call_soon(self._renew)
            self._left -= units
            return
        if not self._places.try_take(flow, 1):
            raise overloaded()
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(flow, (units, turn))
        try:
            await turn
        finally:
            self._places.give_back(flow, 1)

    def _renew(self) -> None:
        """Begin a turn; there are more to come until all that was begun is made up for."""
        self._left = min(self._left + self._units_a_turn, self._units_a_turn)
        while self._waiting and self._left > 0:
            units, turn = self._waiting.pop()
            if not turn.cancelled():
                turn.set_result(None)
                self._left -= units
        if self._left < self._units_a_turn:
            asyncio.get_running_loop().call_soon(self._renew)
