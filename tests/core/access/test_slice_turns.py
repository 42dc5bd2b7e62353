"""Turns of long work: by the time that an organization has used, not by the number of slices."""

from __future__ import annotations

import asyncio

import pytest

from core.access.slice_turns import SLICE_SECONDS_A_TURN, SliceTurns
from core.slices import Sliced
from tests.support.waiting import turns

pytestmark = pytest.mark.anyio

GREEDY, QUIET = 1, 2


class Work:
    """Slices that take as long as they say, by a clock of their own; ``done`` has their owners."""

    def __init__(self) -> None:
        self.now = 0.0
        self.done: list[int] = []
        self.turns = SliceTurns(lambda: self.now)

    def slices(self, flow: int, seconds: float, count: int) -> Sliced[int]:
        for _ in range(count):
            self.now += seconds
            self.done.append(flow)
            yield
        return count

    def begin(self, flow: int, seconds: float, count: int) -> asyncio.Task[int]:
        return asyncio.create_task(self.turns.run(flow, self.slices(flow, seconds, count)))

    async def until(self, count: int) -> None:
        while len(self.done) < count:
            await turns(1)


async def test_one_slice_is_done_in_a_turn_however_many_requests_have_long_work() -> None:
    work = Work()
    tasks = [work.begin(GREEDY, SLICE_SECONDS_A_TURN / 2, 3) for _ in range(20)]
    done = 0
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0)
        assert len(work.done) - done <= 1
        done = len(work.done)
    assert [task.result() for task in tasks] == [3] * 20


async def test_a_long_slice_is_made_up_for_by_turns_without_any() -> None:
    work = Work()
    tasks = [work.begin(GREEDY, 10 * SLICE_SECONDS_A_TURN, 1) for _ in range(2)]
    await turns(8)
    assert len(work.done) == 1
    await asyncio.gather(*tasks)
    assert len(work.done) == 2


async def test_who_has_used_less_time_goes_first() -> None:
    work = Work()
    flood = [work.begin(GREEDY, 0.025, 10) for _ in range(8)]
    await work.until(1)
    await work.begin(QUIET, 0.001, 20)
    assert work.done.count(GREEDY) <= 3
    await asyncio.gather(*flood)


async def test_nobody_saves_time_up() -> None:
    work = Work()
    flood = [work.begin(GREEDY, 0.001, 100) for _ in range(2)]
    await work.until(150)
    quiet = work.begin(QUIET, 0.001, 20)
    before = len(work.done)
    await asyncio.gather(quiet, *flood)
    assert work.done[before : before + 40].count(GREEDY) >= 18


async def test_work_that_is_cancelled_or_fails_leaves_its_turn_to_others() -> None:
    work = Work()

    def failing() -> Sliced[int]:
        yield
        raise ValueError("no such thing")

    failed = asyncio.create_task(work.turns.run(QUIET, failing()))
    first, second, third = (work.begin(GREEDY, 0.001, 2) for _ in range(3))
    await work.until(1)
    second.cancel()
    assert await third == 2
    assert await first == 2
    with pytest.raises(ValueError, match="no such"):
        await failed
    assert await work.begin(QUIET, 0.001, 1) == 1
