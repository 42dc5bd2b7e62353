"""Turns of the event loop: each flow gets its part, whatever the others ask for."""

from __future__ import annotations

import asyncio

import pytest

from core.access.fair_turns import FairTurns
from core.access.shared_budget import SharedBudget
from core.errors import IngestError
from tests.support.waiting import turns

pytestmark = pytest.mark.anyio

GREEDY, QUIET = 1, 2


async def test_a_quiet_flow_begins_in_the_next_turn_whatever_a_flood_has_waiting() -> None:
    fair = FairTurns(2, SharedBudget(1_000))
    begun: list[int] = []

    async def begin(flow: int) -> None:
        await fair.begin(flow)
        begun.append(flow)

    flood = [asyncio.create_task(begin(GREEDY)) for _ in range(100)]
    await turns(1)
    assert len(begun) == 2
    quiet = asyncio.create_task(begin(QUIET))
    await turns(4)
    assert QUIET in begun[:6]
    await asyncio.gather(quiet, *flood)
    assert len(begun) == 101


async def test_a_large_step_is_made_up_for_by_turns_without_any() -> None:
    fair = FairTurns(10, SharedBudget(1_000))
    await fair.begin(GREEDY, 35)
    small = asyncio.create_task(fair.begin(QUIET, 1))
    await turns(2)
    assert not small.done()
    await turns(4)
    assert small.done()


async def test_a_flow_with_too_many_waiting_steps_is_refused_and_another_is_not() -> None:
    fair = FairTurns(1, SharedBudget(4))
    await fair.begin(GREEDY)
    waiting = [asyncio.create_task(fair.begin(GREEDY)) for _ in range(2)]
    await turns(0)
    await asyncio.sleep(0)
    refused = [
        error
        for error in await asyncio.gather(
            *(fair.begin(GREEDY) for _ in range(4)), return_exceptions=True
        )
        if isinstance(error, IngestError)
    ]
    assert refused
    assert all(error.transient for error in refused)
    await fair.begin(QUIET)
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_step_that_is_cancelled_while_it_waits_leaves_its_turn_to_others() -> None:
    places = SharedBudget(10)
    fair = FairTurns(1, places)
    await fair.begin(GREEDY)
    first, second = (asyncio.create_task(fair.begin(GREEDY)) for _ in range(2))
    await turns(1)
    first.cancel()
    await second
    assert places.taken == 0
