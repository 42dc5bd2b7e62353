"""Commands that go on until they are stopped, which is their success."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any


async def until_stopped(work: Coroutine[Any, Any, None]) -> None:
    """Do work that has no end of its own until Ctrl-C or SIGTERM."""
    task = asyncio.create_task(work)
    loop = asyncio.get_running_loop()
    # Also where SIGINT came ignored from the parent, as it does to a shell's background jobs.
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
