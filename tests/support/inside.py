"""A look into a running service: which tasks it has, and what it has committed."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from types import CoroutineType

from tests.support.running_service import RunningService
from tests.support.tenant import Tenant

# The second within which an operator's change is in force, and what a busy machine may add to it.
IN_FORCE_SECONDS = 1.0 + 1.0


async def tasks(service: RunningService) -> Counter[str]:
    """How many tasks run each coroutine function, by qualified name."""

    async def count() -> Counter[str]:
        return Counter(
            str(getattr(task.get_coro(), "__qualname__", "")) for task in asyncio.all_tasks()
        )

    assert service._loop is not None
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(count(), service._loop))


async def stream_tasks(service: RunningService) -> int:
    """How many tasks there are on behalf of streams."""
    found = await tasks(service)
    return sum(
        count
        for name, count in found.items()
        if name.startswith(("EventStream.", "Ingestor.", "IngestServicer."))
    )


async def in_flight(service: RunningService, count: int) -> None:
    """Wait until streams have so many batches enqueued and not answered, and no more follow."""
    seen = -1

    async def batches() -> int:
        coroutines = [task.get_coro() for task in asyncio.all_tasks()]
        streams = [
            coroutine.cr_frame.f_locals["self"]
            for coroutine in coroutines
            if getattr(coroutine, "__qualname__", "") == "EventStream._write_acks"
            and isinstance(coroutine, CoroutineType)
            and coroutine.cr_frame is not None
        ]
        return sum(not batch.receipt.done() for stream in streams for batch in stream._unacked)

    async def are() -> bool:
        nonlocal seen
        assert service._loop is not None
        counted = asyncio.run_coroutine_threadsafe(batches(), service._loop)
        before, seen = seen, await asyncio.wrap_future(counted)
        return before == seen == count

    await until(are, pause=0.3)


async def until(
    condition: Callable[[], Awaitable[bool]], seconds: float = 20.0, pause: float = 0.02
) -> None:
    """Wait for something to become true."""
    async with asyncio.timeout(seconds):
        while True:
            if await condition():
                return
            await asyncio.sleep(pause)


async def written(tenant: Tenant, least: int) -> None:
    """Wait for that many events to be committed."""

    async def enough() -> bool:
        return len(await tenant.events()) >= least

    await until(enough)


async def no_stream_tasks(service: RunningService, seconds: float = 10.0) -> None:
    """Wait for every stream's tasks to be gone."""
    deadline = time.monotonic() + seconds
    while await stream_tasks(service):
        assert time.monotonic() < deadline, await tasks(service)
        await asyncio.sleep(0.02)
