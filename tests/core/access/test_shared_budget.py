"""Budgets shared by flows: each gets its part, whatever the others ask for."""

from __future__ import annotations

import asyncio

import pytest

from core.access.shared_budget import SharedBudget
from tests.support.waiting import turns

pytestmark = pytest.mark.anyio

GREEDY, QUIET, THIRD = 1, 2, 3


def fill(budget: SharedBudget, flow: int) -> int:
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
    order: list[int] = []

    async def take(flow: int) -> None:
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
