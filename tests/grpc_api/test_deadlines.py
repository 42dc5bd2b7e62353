"""Deadlines of tasks, by one timer."""

from __future__ import annotations

import asyncio

import pytest

from grpc_api import deadlines as module
from grpc_api.deadlines import Deadline, Deadlines

pytestmark = pytest.mark.anyio
PATIENCE_SECONDS = 30
FAR_SECONDS = 3_600.0


@pytest.fixture(autouse=True)
def check_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks come one after the other."""
    monkeypatch.setattr(module, "CHECK_SECONDS", 0.001)


async def _wait(deadlines: Deadlines, seconds: float, begun: list[Deadline]) -> str:
    deadline = deadlines.begin(seconds)
    begun.append(deadline)
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        return "over" if deadline.is_over else "cancelled"
    finally:
        deadlines.end(deadline)
    raise AssertionError("unreachable")


async def test_a_task_ends_at_its_deadline_and_others_go_on() -> None:
    deadlines = Deadlines()
    begun: list[Deadline] = []
    late = asyncio.create_task(_wait(deadlines, 0.0, begun))
    other = asyncio.create_task(_wait(deadlines, FAR_SECONDS, begun))
    assert await asyncio.wait_for(late, PATIENCE_SECONDS) == "over"
    assert not other.done()
    begun[1].at = 0.0  # another time for it
    assert await asyncio.wait_for(other, PATIENCE_SECONDS) == "over"


async def test_a_task_that_others_cancel_is_not_over() -> None:
    deadlines = Deadlines()
    begun: list[Deadline] = []
    task = asyncio.create_task(_wait(deadlines, FAR_SECONDS, begun))
    await asyncio.sleep(0)
    task.cancel()
    assert await asyncio.wait_for(task, PATIENCE_SECONDS) == "cancelled"


async def test_a_deadline_cancels_its_task_once_and_none_after_its_end() -> None:
    deadlines = Deadlines()
    deadline = deadlines.begin(0.0)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(PATIENCE_SECONDS)
    await asyncio.sleep(0.01)
    deadlines.end(deadline)
    ended = deadlines.begin(0.0)
    deadlines.end(ended)
    await asyncio.sleep(0.01)
    task = asyncio.current_task()
    assert task is not None
    assert task.uncancel() == 0
    assert not ended.is_over
