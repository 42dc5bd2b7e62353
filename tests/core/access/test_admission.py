"""Bounds shared by flows: each gets its part, whatever the others ask for."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from core.access.admission import FairTurns, SharedBudget
from core.errors import IngestError

pytestmark = pytest.mark.anyio

GREEDY, QUIET, THIRD = (UUID(int=number) for number in (1, 2, 3))


async def turns(count: int) -> None:
    """Let the event loop run so many turns."""
    for _ in range(count):
        await asyncio.sleep(0)


# --- budgets ---------------------------------------------------------------------------------


def fill(budget: SharedBudget, flow: UUID) -> int:
    """Take one at a time until the flow is refused; returns how many it got."""
    taken = 0
    while budget.try_take(flow, 1):
        taken += 1
    return taken


def test_one_flow_gets_a_half_and_leaves_the_rest_to_others() -> None:
    budget = SharedBudget(96)
    assert fill(budget, GREEDY) == 48
    assert fill(budget, QUIET) == 24
    assert fill(budget, THIRD) == 12
    assert budget.free == 12


def test_all_that_is_given_back_is_free_again() -> None:
    budget = SharedBudget(10)
    assert budget.try_take(GREEDY, 5)
    assert not budget.try_take(GREEDY, 1)
    budget.give_back(GREEDY, 5)
    assert (budget.free, budget.taken) == (10, 0)
    assert budget.try_take(GREEDY, 5)


def test_an_amount_above_every_share_is_let_in_alone() -> None:
    budget = SharedBudget(10)
    assert budget.try_take(GREEDY, 9)
    assert not budget.try_take(QUIET, 9)
    budget.give_back(GREEDY, 9)
    assert not budget.try_take(QUIET, 11)
    assert budget.try_take(QUIET, 10)


async def test_who_waits_gets_what_is_given_back_one_of_each_flow_in_turn() -> None:
    budget = SharedBudget(4)
    assert budget.try_take(THIRD, 4)
    order: list[UUID] = []

    async def take(flow: UUID) -> None:
        assert await budget.take(flow, 1)
        order.append(flow)

    tasks = [asyncio.create_task(take(flow)) for flow in (GREEDY, GREEDY, GREEDY, QUIET)]
    await turns(1)
    budget.give_back(THIRD, 4)
    await turns(2)
    assert order == [GREEDY, QUIET, GREEDY]  # and one stays free for a newcomer
    budget.give_back(GREEDY, 1)
    await asyncio.gather(*tasks)
    assert order == [GREEDY, QUIET, GREEDY, GREEDY]


async def test_a_wait_that_is_cancelled_takes_nothing() -> None:
    budget = SharedBudget(2)
    assert budget.try_take(GREEDY, 2)
    waiting = asyncio.create_task(budget.take(QUIET, 1))
    behind = asyncio.create_task(budget.take(QUIET, 1))
    await turns(1)
    waiting.cancel()
    budget.give_back(GREEDY, 2)
    await behind
    await asyncio.gather(waiting, return_exceptions=True)
    assert budget.taken == 1


async def test_a_wait_that_is_cancelled_as_it_ends_gives_back_what_it_got() -> None:
    budget = SharedBudget(2)
    assert budget.try_take(GREEDY, 2)
    waiting = asyncio.create_task(budget.take(QUIET, 1))
    await turns(1)
    budget.give_back(GREEDY, 2)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert budget.taken == 0


# --- turns -----------------------------------------------------------------------------------


async def test_a_quiet_flow_begins_in_the_next_turn_whatever_a_flood_has_waiting() -> None:
    fair = FairTurns(2, SharedBudget(1_000))
    begun: list[UUID] = []

    async def begin(flow: UUID) -> None:
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
