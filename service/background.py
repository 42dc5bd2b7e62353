"""Work beside a block of code, whose end the service notices."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any


@contextlib.asynccontextmanager
async def background(
    work: Coroutine[Any, Any, None],
    failure: asyncio.Future[None],
    stop: Callable[[], None] | None = None,
) -> AsyncIterator[None]:
    """Run ``work`` beside the block, and wait for its end on leaving the block.

    It is asked to end by ``stop``, or cancelled where there is none. If it ends within the block,
    ``failure`` gets its exception.
    """
    stopping = False

    def note_end(task: asyncio.Task[None]) -> None:
        if not stopping and not failure.done():
            error = None if task.cancelled() else task.exception()
            failure.set_exception(error or RuntimeError(f"{task.get_coro()} ended"))

    task = asyncio.create_task(work)
    task.add_done_callback(note_end)
    try:
        yield
    finally:
        stopping = True
        if stop is None:
            task.cancel()
        else:
            stop()
        await asyncio.gather(task, return_exceptions=True)
