"""Room for the batches of all streams."""

from __future__ import annotations

import asyncio

import pytest

from grpc_api.room import MAX_IN_FLIGHT_BYTES, Room

pytestmark = pytest.mark.anyio


async def test_room_is_given_in_order_and_given_back() -> None:
    room = Room()
    half = MAX_IN_FLIGHT_BYTES // 2
    assert not await room.enter(half)
    large = asyncio.create_task(room.enter(half + 1))
    small = asyncio.create_task(room.enter(1))
    await asyncio.sleep(0)
    assert not large.done()
    assert not small.done()  # behind the large one
    room.leave(half)
    assert await large
    assert await small
    room.leave(half + 1)
    room.leave(1)

    assert not await room.enter(10 * MAX_IN_FLIGHT_BYTES)  # alone
    waiting = [asyncio.create_task(room.enter(half)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()  # in the queue
    room.leave(10 * MAX_IN_FLIGHT_BYTES)
    waiting[1].cancel()  # in possession of a place it does not know of
    await asyncio.gather(*waiting, return_exceptions=True)
    room.leave(half)
    assert not await room.enter(MAX_IN_FLIGHT_BYTES)
