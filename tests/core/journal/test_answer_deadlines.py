"""The requests without an answer, and the timer that looks at them."""

from __future__ import annotations

import asyncio

import pytest

import core.journal.answer_deadlines
from core.journal.answer_deadlines import AnswerDeadlines
from core.journal.pending_events import PendingEvents
from core.models import Actor, Event, EventBatch
from tests.support.strategies import CALLER

pytestmark = pytest.mark.anyio

EVENT = Event("deal.won", "code", Actor(external_id="crm-user-1"))


def _request() -> PendingEvents:
    return PendingEvents(CALLER, EventBatch("req_", [EVENT]), 1_776_600_300_123_456)


def _timer(deadlines: AnswerDeadlines) -> asyncio.TimerHandle | None:
    return deadlines._timer


async def test_those_that_are_due_are_found_in_their_order() -> None:
    deadlines = AnswerDeadlines(lambda: None)
    first, second, third = (_request() for _ in range(3))
    for request in (first, second):
        deadlines.add(request, 10.0)
    deadlines.add(third, 20.0)
    assert list(deadlines.due_within(9.0)) == []
    assert list(deadlines.due_within(15.0)) == [first, second]
    deadlines.remove(first)
    assert list(deadlines.due_within(30.0)) == [second, third]
    for request in (second, third):
        deadlines.remove(request)


async def test_they_are_looked_at_as_long_as_there_are_any(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(core.journal.answer_deadlines, "CHECK_SECONDS", 0.001)
    looked = asyncio.Event()
    looks = 0

    def look() -> None:
        nonlocal looks
        looks += 1
        if looks == 3:
            deadlines.remove(request)
            looked.set()

    deadlines, request = AnswerDeadlines(look), _request()
    deadlines.add(request, 10.0)
    await looked.wait()
    assert _timer(deadlines) is None
    deadlines.add(request, 10.0)
    timer = _timer(deadlines)
    assert timer is not None
    timer.cancel()
