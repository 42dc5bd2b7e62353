"""How long steps share the turns of the event loop."""

from __future__ import annotations

import asyncio

import pytest

from core.access.long_steps import MAX_TURN_EVENTS, LongSteps

pytestmark = pytest.mark.anyio


class Steps:
    """Steps that are made as they may begin, and in which turn of the loop each was."""

    def __init__(self) -> None:
        self.made: list[tuple[str, int]] = []
        self._steps = LongSteps()
        self._turn = 0
        self._counting = asyncio.create_task(self._count())

    async def _count(self) -> None:
        while True:
            self._turn += 1
            await asyncio.sleep(0)

    def make(self, name: str, events: int) -> asyncio.Task[None]:
        async def step() -> None:
            await self._steps.begin(events)
            self.made.append((name, self._turn))

        return asyncio.create_task(step())

    async def all_of(self, *tasks: asyncio.Task[None]) -> None:
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
        self._counting.cancel()

    @property
    def names(self) -> str:
        return "".join(name for name, _ in self.made)

    @property
    def turns(self) -> list[int]:
        return [turn for _, turn in self.made]


async def test_a_turn_has_one_long_step() -> None:
    steps = Steps()
    await steps.all_of(*(steps.make(name, MAX_TURN_EVENTS) for name in "abcde"))
    assert steps.names == "abcde"
    assert len(set(steps.turns)) == 5


async def test_a_larger_step_is_followed_by_turns_without_any() -> None:
    steps = Steps()
    await steps.all_of(steps.make("a", 10 * MAX_TURN_EVENTS), steps.make("b", 1))
    first, second = steps.turns
    assert second - first >= 10


async def test_a_turn_has_several_short_steps() -> None:
    steps = Steps()
    await steps.all_of(*(steps.make("a", MAX_TURN_EVENTS // 5) for _ in range(10)))
    assert len(steps.made) == 10
    assert len(set(steps.turns)) == 2


async def test_short_steps_do_not_overtake_those_that_wait() -> None:
    steps = Steps()
    tasks = [steps.make(name, MAX_TURN_EVENTS) for name in "abc"]
    await asyncio.sleep(0)
    tasks.append(steps.make("d", 1))
    await steps.all_of(*tasks)
    assert steps.names == "abcd"


async def test_a_step_without_events_leaves_the_turns_as_they_are() -> None:
    steps = Steps()
    without = [steps.make("0", 0) for _ in range(3)]
    await steps.all_of(*without, *(steps.make(name, MAX_TURN_EVENTS) for name in "abc"))
    assert steps.names == "000abc"
    assert len(set(steps.turns[3:])) == 3


async def test_who_does_nothing_for_a_while_has_one_turn_to_spend() -> None:
    steps = Steps()
    for _ in range(10):
        await asyncio.sleep(0)
    await steps.all_of(*(steps.make(name, MAX_TURN_EVENTS) for name in "ab"))
    assert len(set(steps.turns)) == 2


@pytest.mark.parametrize("turns", range(6))
async def test_one_that_gives_up_is_not_waited_for(turns: int) -> None:
    steps = Steps()
    tasks = {name: steps.make(name, MAX_TURN_EVENTS) for name in "abc"}
    for _ in range(turns):
        await asyncio.sleep(0)
    tasks["b"].cancel()
    await steps.all_of(*tasks.values())
    await asyncio.wait_for(steps.make("d", MAX_TURN_EVENTS), 10)
    assert steps.names.replace("b", "") == "acd"
