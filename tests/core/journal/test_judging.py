"""Batches that are judged together come out as each would alone."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw, structs

from core.error_codes import ErrorCode
from core.errors import IngestError
from core.journal import judging
from core.journal.judging import is_answered, judged, refuse
from core.journal.pending_events import PendingEvents
from core.models import Actor, Event, EventBatch, Malformed
from core.slices import at_once
from tests.support.strategies import (
    CALLER,
    EXAMPLES,
    metadata_texts,
    valid_events,
    well_formed_events,
)

pytestmark = pytest.mark.anyio

RECEIVED_US = 1_776_600_300_123_456
SOMEBODY = Actor(external_id="crm-user-1")
GOOD = Event("deal.won", "code", SOMEBODY, metadata=Raw(b'{"a":1.50}'))
BAD = Event("deal.won", "code", SOMEBODY, duration=-1)

raw_events = st.builds(
    lambda event, text: structs.replace(event, metadata=Raw(text)), valid_events, metadata_texts
)
malformed = st.builds(Malformed, st.just(("duration: must be an integer",)), st.binary(max_size=20))
batches = st.builds(
    EventBatch,
    st.just("req_"),
    st.lists(valid_events | well_formed_events | malformed | raw_events, min_size=1, max_size=3),
    st.none() | st.just("the key"),
)


def _unjudged(events: list[Event | Malformed], key: str | None = None) -> PendingEvents:
    request = PendingEvents(CALLER, EventBatch("req_", events, key), RECEIVED_US)
    request.answer = asyncio.get_running_loop().create_future()
    return request


def _judgement(request: PendingEvents) -> object:
    """All that was found out about a batch, but for the ids, which are random."""
    checked = request.checked
    return (
        *(checked.indexes, checked.actor_indexes, checked.names, checked.actors, checked.echoes),
        *([tail[12:] for tail in checked.tails], [str(one) for one in checked.rejected]),
        *(request.claim and request.claim.fingerprint, request.is_refused),
    )


@EXAMPLES
@given(st.lists(batches, min_size=1, max_size=4))
def test_batches_are_judged_together_as_each_alone(some: list[EventBatch]) -> None:
    together = [PendingEvents(CALLER, batch, RECEIVED_US) for batch in some]
    judging._judge_together(together)
    alone = [PendingEvents.check(CALLER, batch, RECEIVED_US) for batch in some]
    assert list(map(_judgement, together)) == list(map(_judgement, alone))


async def test_those_to_be_written_are_returned_and_the_others_have_their_answer() -> None:
    good, bad, keyed = _unjudged([GOOD]), _unjudged([BAD]), _unjudged([BAD], "the key")
    assert await judged([good, bad, keyed]) == [good, keyed]
    error = bad.answer.exception()
    assert isinstance(error, IngestError)
    assert error.code is ErrorCode.INVALID_BODY
    assert error.rejected is not None


async def test_who_waits_is_refused_without_the_others() -> None:
    good, bad = _unjudged([GOOD]), _unjudged([BAD])
    assert at_once(refuse([good, bad])) == [bad]
    assert good.is_judged
    assert not is_answered(good)
    assert bad.answer.exception() is not None


async def test_many_batches_take_many_turns() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count())
    await judged([_unjudged([GOOD] * 10) for _ in range(20)])
    counting.cancel()
    assert turns >= 2


async def test_who_has_waited_is_judged_in_slices_and_nobody_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    judge, judgements = PendingEvents.judge, 0

    def counted(request: PendingEvents, *found: object) -> None:
        nonlocal judgements
        judgements += 1
        judge(request, *found)  # type: ignore[arg-type]

    monkeypatch.setattr(PendingEvents, "judge", counted)
    waiting = [_unjudged([BAD] * 10) for _ in range(20)]
    work = refuse(waiting)
    next(work)
    assert not waiting[-1].is_judged
    assert await judged(waiting) == []  # meanwhile they are about to be written
    assert at_once(work) == waiting
    assert judgements == len(waiting)
    assert all(request.answer.exception() for request in waiting)


async def test_a_request_that_cannot_be_judged_fails_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    good, odd = _unjudged([GOOD]), _unjudged([GOOD])
    judge = PendingEvents.judge

    def judge_or_crash(request: PendingEvents, *found: object) -> None:
        if request is odd:
            raise ZeroDivisionError
        judge(request, *found)  # type: ignore[arg-type]

    monkeypatch.setattr(PendingEvents, "judge", judge_or_crash)
    assert await judged([odd, good]) == [good]
    error = odd.answer.exception()
    assert isinstance(error, IngestError)
    assert isinstance(error.__cause__, ZeroDivisionError)
