"""The requests without an answer, and the timer that looks at them."""

from __future__ import annotations

import asyncio

import pytest

import core.journal.unanswered
from core.journal.pending_events import PendingEvents
from core.journal.unanswered import Unanswered
from core.models import Actor, Event, EventBatch
from core.slices import Sliced
from tests.support.strategies import CALLER

pytestmark = pytest.mark.anyio

EVENT = Event("deal.won", "code", Actor(external_id="crm-user-1"))


def _request() -> PendingEvents:
    return PendingEvents(CALLER, EventBatch("req_", [EVENT]), 1_776_600_300_123_456)


def _nothing() -> Sliced[None]:
    yield from ()


def _timer(unanswered: Unanswered) -> asyncio.TimerHandle | None:
    return unanswered._timer


async def test_those_that_are_due_are_found_in_their_order() -> None:
    unanswered = Unanswered(_nothing)
    first, second, third = (_request() for _ in range(3))
    for request in (first, second):
        unanswered.add(request, 10.0)
    unanswered.add(third, 20.0)
    assert list(unanswered.due_within(9.0)) == []
    assert list(unanswered.due_within(15.0)) == [first, second]
    unanswered.remove(first)
    assert list(unanswered.due_within(30.0)) == [second, third]
    for request in (second, third):
        unanswered.remove(request)


async def test_they_are_looked_at_as_long_as_there_are_any(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(core.journal.unanswered, "CHECK_SECONDS", 0.001)
    looked = asyncio.Event()
    looks = 0

    def look() -> Sliced[None]:
        nonlocal looks
        yield
        looks += 1
        if looks == 3:
            unanswered.remove(request)
            looked.set()

    unanswered, request = Unanswered(look), _request()
    unanswered.add(request, 10.0)
    await looked.wait()
    assert _timer(unanswered) is None
    unanswered.add(request, 10.0)
    timer = _timer(unanswered)
    assert timer is not None
    timer.cancel()
