"""Admission: every bound on work without an answer yet, shared fairly among organizations.

This module knows all of them, and no party gets more of a resource than all others leave it:

- **turns** of the event loop. In one turn the loop runs all that is ready, and work that becomes
  ready meanwhile waits for the next. A stored request takes dozens of turns, so each turn may begin
  few requests and judge few events, of each flow in turn.
- **memory** of single requests, from the first byte of a body that arrives to the answer.
- **streamed** batches, from before they are decoded to their acknowledgement.
- **streams** that are open, and those that use the database to open.

A flow may hold as much of a budget as is free after it has taken its part (Choudhury and Hahne,
"Dynamic queue length thresholds", 1998). One flow alone gets a half, two get a third each, and
there is always room for a newcomer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from typing import Final

from core.access.fair_queue import FairQueue, Flow
from core.errors import IngestError, unavailable

MAX_BEGUN_A_TURN: Final = 8  # requests
MAX_READ_A_TURN: Final = 8  # pieces of bodies
MAX_JUDGED_A_TURN: Final = 500  # events, on average; a larger step is followed by idle turns
MIN_JUDGED_IN_TURN: Final = 50  # events; fewer take hardly longer than the rest of a request
MAX_WAITING_STEPS: Final = 8_192  # of all flows together
MAX_REQUEST_BYTES: Final = 256 * 1_048_576  # of all single requests together
# Streamed batches are counted by their events, each of which stands for so many bytes at most, and
# a batch itself for so many events. One flow alone gets three transactions' worth of events: one is
# written, the others wait. More would have left the processor's caches when its turn comes.
MAX_STREAMED_EVENTS: Final = 48_000
STREAMED_EVENT_BYTES: Final = 2_048
STREAMED_BATCH_EVENTS: Final = 50
# An open stream reads, and what is read arrives whole: up to 1.25 MiB before anybody sees it.
MAX_OPEN_STREAMS: Final = 256
MAX_STREAM_OPENINGS: Final = 4  # at once; the pool they take connections from has twice as many
# Estimates of the memory of a single request beside its body: of itself, and of an event's row.
REQUEST_BYTES: Final = 8_192
EVENT_BYTES: Final = 400


def overloaded() -> IngestError:
    """The refusal of a request for which there is no room, or no turn in time."""
    return unavailable("The service is overloaded. Retry shortly.")


class Admission:
    """The bounds of one process.

    ``beginning``: turns to begin a request, whatever becomes of it. ``reading``: turns to read one
    more piece of a body that did not come at once. ``judging``: turns to decode
    and judge the events of a batch. ``memory``: bytes of single requests. ``streamed``: events of
    streamed batches (:func:`streamed_events`). ``open_streams`` and ``stream_openings``: streams.
    """

    def __init__(self) -> None:
        waiting = SharedBudget(MAX_WAITING_STEPS)
        self.beginning = FairTurns(MAX_BEGUN_A_TURN, waiting)
        self.reading = FairTurns(MAX_READ_A_TURN, waiting)
        self.judging = FairTurns(MAX_JUDGED_A_TURN, waiting)
        self.memory = SharedBudget(MAX_REQUEST_BYTES)
        self.streamed = SharedBudget(MAX_STREAMED_EVENTS)
        self.open_streams = SharedBudget(MAX_OPEN_STREAMS)
        self.stream_openings = SharedBudget(MAX_STREAM_OPENINGS)


def request_bytes(body_bytes: int, events: int) -> int:
    """The estimated memory of a single request: its body, and as much again in rows."""
    return REQUEST_BYTES + 2 * body_bytes + EVENT_BYTES * events


def streamed_events(message_bytes: int, events: int) -> int:
    """The amount of ``streamed`` that a batch takes."""
    return STREAMED_BATCH_EVENTS + max(events, message_bytes // STREAMED_EVENT_BYTES)


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

    A request that asks gets its part at once or is refused (:meth:`try_take`); a stream can wait
    for it (:meth:`take`). Whoever took something gives it back.
    """

    def __init__(self, most: int) -> None:
        self.free = most
        self._most = most
        self._taken: defaultdict[Flow, int] = defaultdict(int)
        self._waiting: FairQueue[tuple[int, asyncio.Future[None]]] = FairQueue()

    @property
    def taken(self) -> int:
        """The amount that all flows together hold."""
        return self._most - self.free

    def try_take(self, flow: Flow, amount: int) -> bool:
        """Take an amount, or nothing if the flow's share or the whole is used up."""
        if flow in self._waiting or not self._fits(flow, amount):
            return False
        self._take(flow, amount)
        return True

    async def take(self, flow: Flow, amount: int) -> bool:
        """Take an amount as soon as the flow's share has room; returns whether that took a wait.

        A large amount is not overtaken by smaller ones of its flow. Nothing is taken if cancelled.
        """
        if self.try_take(flow, amount):
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
        return amount <= share or (self.free == self._most and amount <= self._most)

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
