"""Budgets: bounded amounts of something, of which each organization gets a fair share.

A flow may hold as much of a budget as is free after it has taken its part (Choudhury and Hahne,
"Dynamic queue length thresholds", 1998). One flow alone gets a half, two get a third each, and
there is always room for a newcomer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict

from core.access.fair_queue import FairQueue, Flow
from core.errors import IngestError, unavailable


def overloaded() -> IngestError:
    """The refusal of a request for which there is no room, or no turn in time."""
    return unavailable("The service is overloaded. Retry shortly.")


class Holding:
    """A part of a budget that grows while a body arrives; given back by :meth:`release`."""

    def __init__(self, budget: SharedBudget, flow: Flow) -> None:
        self._budget = budget
        self._flow = flow
        self._amount = 0

    @classmethod
    def of(cls, budget: SharedBudget, flow: Flow, amount: int) -> Holding:
        """An amount that was taken already."""
        holding = cls(budget, flow)
        holding._amount = amount
        return holding

    def grow(self, amount: int) -> None:
        """Take more; raises ``internal_error``, transient, if the flow's share is used up."""
        if not self._budget.try_take(self._flow, amount):
            raise overloaded()
        self._amount += amount

    def release(self) -> None:
        """Give everything back; no matter if that was done before."""
        if self._amount:
            self._budget.give_back(self._flow, self._amount)
            self._amount = 0


class SharedBudget:
    """A bounded amount of something, of which each flow gets a fair share.

    ``most``: the whole amount. ``refused``: how often :meth:`try_take` has found too little.

    A request that asks gets its part at once or is refused (:meth:`try_take`); a stream can wait
    for it (:meth:`take`). Whoever took something gives it back.
    """

    def __init__(self, most: int) -> None:
        self.free = most
        self.most = most
        self.refused = 0
        self._taken: defaultdict[Flow, int] = defaultdict(int)
        self._waiting: FairQueue[tuple[int, asyncio.Future[None]]] = FairQueue()

    @property
    def taken(self) -> int:
        """The amount that all flows together hold."""
        return self.most - self.free

    @property
    def waiting(self) -> int:
        """How many wait in :meth:`take`."""
        return len(self._waiting)

    def try_take(self, flow: Flow, amount: int) -> bool:
        """Take an amount, or nothing if the flow's share or the whole is used up."""
        if flow in self._waiting or not self._fits(flow, amount):
            self.refused += 1
            return False
        self._take(flow, amount)
        return True

    async def take(self, flow: Flow, amount: int) -> bool:
        """Take an amount as soon as the flow's share has room; returns whether that took a wait.

        A large amount is not overtaken by smaller ones of its flow. Nothing is taken if cancelled.
        """
        if flow not in self._waiting and self._fits(flow, amount):
            self._take(flow, amount)
            return False
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (amount, granted)
        self._waiting.append(flow, entry)
        try:
            await granted
        except asyncio.CancelledError:
            if granted.cancelled():
                with contextlib.suppress(ValueError):  # a grant came upon it first
                    self._waiting.remove(flow, entry)
                self._grant()  # to those that waited behind it
            else:
                self.give_back(flow, amount)
            raise
        return True

    def give_back(self, flow: Flow, amount: int) -> None:
        """Return a part of what the flow holds."""
        self.free += amount
        left = self._taken[flow] - amount
        if left:
            self._taken[flow] = left
        else:
            del self._taken[flow]
        if self._waiting:
            self._grant()

    def _fits(self, flow: Flow, amount: int) -> bool:
        # An amount above any share is let in alone.
        share = self.free - self._taken.get(flow, 0)
        return amount <= share or (self.free == self.most and amount <= self.most)

    def _take(self, flow: Flow, amount: int) -> None:
        self.free -= amount
        self._taken[flow] += amount

    def _grant(self) -> None:
        granted = True
        while granted and self._waiting:
            granted = False
            for flow, (amount, future) in self._waiting:
                if future.cancelled() or self._fits(flow, amount):
                    self._waiting.pop_of(flow)
                    if not future.cancelled():
                        self._take(flow, amount)
                        future.set_result(None)
                    granted = True
                    break
