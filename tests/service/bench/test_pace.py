"""The pace of a sender: moments that are fixed before, made up for or left out when missed."""

from __future__ import annotations

import asyncio

import pytest

from service.bench.pace import paces
from service.bench.recorder import Recorder, now

RATE = 1_000.0
SLOW_RATE = 10.0  # so that the sender is free before it is due
MISSED_SECONDS = 0.05


@pytest.mark.anyio
async def test_moments_that_were_missed_are_made_up_for_and_count_from_when_they_were() -> None:
    (pace,) = paces(Recorder(now(), 60.0), RATE, 1)
    first = await pace.due()
    await asyncio.sleep(MISSED_SECONDS)
    second, third = await pace.due(), await pace.due()
    assert second - first <= 1 / RATE + 1e-9  # clocks are floats
    assert third - second == pytest.approx(1 / RATE)


@pytest.mark.anyio
async def test_moments_that_were_missed_are_left_out() -> None:
    (pace,) = paces(Recorder(now(), 60.0), RATE, 1, skip_missed=True)
    first = await pace.due()
    await asyncio.sleep(MISSED_SECONDS)
    begun = now()
    second = await pace.due()
    assert second - first >= MISSED_SECONDS
    assert begun <= second <= now()


@pytest.mark.anyio
async def test_a_timer_that_is_late_is_not_the_service_s_doing() -> None:
    (pace,) = paces(Recorder(now(), 60.0), SLOW_RATE, 1)
    first = await pace.due()
    assert await pace.due() - first > 1 / SLOW_RATE
