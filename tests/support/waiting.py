"""Waiting for a condition within bounds: tests wait for conditions, never for time alone."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Final

WAIT_SECONDS: Final = 20.0
POLL_SECONDS: Final = 0.02

# The second within which an operator's change is in force, and what a busy machine may add to it.
IN_FORCE_SECONDS: Final = 1.0 + 1.0


async def eventually(
    condition: Callable[[], bool | Awaitable[bool]],
    expectation: str,
    *,
    seconds: float = WAIT_SECONDS,
    poll_seconds: float = POLL_SECONDS,
) -> None:
    """Return once the condition, a function or a coroutine function, is true.

    Fails with the expectation if it is still false after so many seconds.
    """
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        if await answer if inspect.isawaitable(answer) else answer:
            return
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {expectation}"
        await asyncio.sleep(poll_seconds)


def wait_until(
    condition: Callable[[], bool], expectation: str, *, seconds: float = WAIT_SECONDS
) -> None:
    """Do as :func:`eventually`, for tests without an event loop."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {expectation}"
        time.sleep(POLL_SECONDS)


async def turns(count: int) -> None:
    """Let the event loop run so many turns."""
    for _ in range(count):
        await asyncio.sleep(0)
