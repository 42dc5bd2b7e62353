"""The tasks of a running service: how many work for streams and requests."""

from __future__ import annotations

import asyncio
from collections import Counter

from tests.support.running_service import RunningService
from tests.support.waiting import eventually

# Between two looks at the batches under way: one that follows would be seen by then.
LOOK_SECONDS = 0.3


async def tasks(service: RunningService) -> Counter[str]:
    """How many tasks run each coroutine function, by qualified name."""

    async def count() -> Counter[str]:
        return Counter(
            str(getattr(task.get_coro(), "__qualname__", "")) for task in asyncio.all_tasks()
        )

    return await service.run_in_its_loop(count())


async def stream_tasks(service: RunningService) -> int:
    """How many tasks there are on behalf of streams."""
    found = await tasks(service)
    return sum(
        count
        for name, count in found.items()
        if name.startswith(("EventStream.", "Ingestor.", "IngestServicer."))
    )


async def in_flight(service: RunningService, count: int) -> None:
    """Wait for that many batches to be on their way to the database, and for no more to follow."""
    seen = -1

    async def are() -> bool:
        nonlocal seen
        before, seen = seen, (await tasks(service))["Ingestor.ingest"]
        return before == seen == count

    await eventually(are, f"{count} batches are in flight", poll_seconds=LOOK_SECONDS)


async def no_stream_tasks(service: RunningService, seconds: float = 10.0) -> None:
    """Wait for every stream's tasks to be gone."""

    async def none() -> bool:
        return not await stream_tasks(service)

    await eventually(none, "no stream has a task", seconds=seconds)
