"""Ending a run in order at SIGINT or SIGTERM."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def until_interrupted(work: Coroutine[Any, Any, T], tell: Callable[[], None]) -> T | None:
    """The work's result, or None if SIGINT or SIGTERM came before it.

    At the first signal ``tell`` is called and the work is cancelled; its cleaning up is awaited,
    whatever signals follow.
    """
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if not task.cancelling():
            tell()
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    try:
        return await task
    except asyncio.CancelledError:
        return None
