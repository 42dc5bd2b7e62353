"""The tasks of a running service, and the batches that its streams have under way."""

from __future__ import annotations

import asyncio
from collections import Counter
from types import CoroutineType

from grpc_api.stream import EventStream
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


def _streams() -> list[EventStream]:
    """The streams of the service in whose loop this runs."""
    coroutines = [task.get_coro() for task in asyncio.all_tasks()]
    return [
        coroutine.cr_frame.f_locals["self"]
        for coroutine in coroutines
        if getattr(coroutine, "__qualname__", "") == "EventStream._write_acks"
        and isinstance(coroutine, CoroutineType)
        and coroutine.cr_frame is not None
    ]


async def told_to_end(service: RunningService) -> None:
    """Wait until every stream knows that it is to end."""

    async def told() -> bool:
        return all(stream._end_request.done() for stream in _streams())

    async def are() -> bool:
        return await service.run_in_its_loop(told())

    await eventually(are, "every stream is told to end")


async def message_waits(service: RunningService) -> None:
    """Wait until every stream has read a message that it may not work on yet."""

    async def waits() -> bool:
        streams = _streams()
        return bool(streams) and all(stream._has_message for stream in streams)

    async def does() -> bool:
        return await service.run_in_its_loop(waits())

    await eventually(does, "every stream has a message that waits")


async def in_flight(service: RunningService, count: int) -> None:
    """Wait until streams have so many batches enqueued and not answered, and no more follow."""
    seen = -1

    async def batches() -> int:
        return sum(not batch.receipt.done() for stream in _streams() for batch in stream._unacked)

    async def are() -> bool:
        nonlocal seen
        before, seen = seen, await service.run_in_its_loop(batches())
        return before == seen == count

    await eventually(are, f"{count} batches are in flight", poll_seconds=LOOK_SECONDS)


async def no_stream_tasks(service: RunningService, seconds: float = 10.0) -> None:
    """Wait for every stream's tasks to be gone."""

    async def none() -> bool:
        return not await stream_tasks(service)

    await eventually(none, "no stream has a task", seconds=seconds)
