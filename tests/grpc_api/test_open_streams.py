"""Streams that end together when the service stops, and of which one remains for a producer."""

from __future__ import annotations

import asyncio
import time

import grpc as grpc_library
import pytest

from core.access import admission
from grpc_api.open_streams import OpenStreams, ProducerStream
from tests.grpc_api.conftest import Connect, OpenStream
from tests.support.running_service import RunningService
from tests.support.stream_client import (
    PATIENCE_SECONDS,
    End,
    Stream,
    flood,
    numbered,
    opening,
)
from tests.support.tcp_proxy import TcpProxy
from tests.support.tenant import (
    Tenant,
    make_tenant,
    until_somebody_waits_for,
    until_stored,
)
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio
OK = grpc_library.StatusCode.OK
ABORTED = grpc_library.StatusCode.ABORTED
UNAVAILABLE = grpc_library.StatusCode.UNAVAILABLE
LATE_SECONDS = 2.0
SLOWEST_OF_USUAL = 50  # where the machine is slow


async def test_what_was_read_is_committed_and_acked_when_the_service_stops(
    database_url: str, connect: Connect
) -> None:
    tenant = await make_tenant(database_url)
    with RunningService(database_url, drain_seconds=30) as service:
        target = service.addresses.grpc
        idle = Stream(connect(service.addresses).channel, tenant.key)
        await idle.open("idle")
        floods = [
            asyncio.create_task(
                asyncio.to_thread(
                    flood, target, tenant.key, numbered(f"producer-{number}", size=300)
                )
            )
            for number in range(3)  # threads are few where processors are
        ]
        await until_stored(tenant, 5_000)
        started = time.monotonic()
        await asyncio.to_thread(service.stop)
        assert time.monotonic() - started < 15
        ends = await asyncio.gather(*floods, idle.end())
    assert {(end.status, end.reason) for end in ends} == {(UNAVAILABLE, "INTERNAL_ERROR")}
    for end in ends:
        assert [ack.sequence for ack in end.acks] == list(range(1, len(end.acks) + 1))
    assert sum(ack.accepted for end in ends for ack in end.acks) == len(await tenant.events())


async def test_clients_that_are_late_hear_every_ack_when_the_service_stops(
    database_url: str,
) -> None:
    """A connection is not closed under what they still send: that would reset it."""
    tenant = await make_tenant(database_url)
    with RunningService(database_url, drain_seconds=30) as service:
        async with TcpProxy(service.addresses.grpc) as proxy:
            flooding = asyncio.create_task(
                asyncio.to_thread(
                    flood, proxy.address, tenant.key, numbered("producer-1", size=300)
                )
            )
            await until_stored(tenant, 5_000)
            with proxy.holding_answers():
                stopping = asyncio.create_task(asyncio.to_thread(service.stop))
                await asyncio.sleep(LATE_SECONDS)
                assert not stopping.done()
            end = await flooding
            await stopping
    assert (end.status, end.reason) == (UNAVAILABLE, "INTERNAL_ERROR")
    assert sum(ack.accepted for ack in end.acks) == len(await tenant.events())


async def test_nothing_is_lost_or_doubled_across_restarts(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    acked = 0
    for _ in range(3):
        with RunningService(database_url) as service:
            flooding = asyncio.create_task(
                asyncio.to_thread(
                    flood, service.addresses.grpc, tenant.key, numbered("producer-1", acked + 1)
                )
            )
            await until_stored(tenant, acked + 10)
        end = await flooding
        assert [ack.duplicate for ack in end.acks] == [False] * len(end.acks)
        acked += len(end.acks)
        assert len(await tenant.events()) == acked


async def test_of_two_streams_opened_together_the_one_of_the_later_epoch_remains(
    tenant: Tenant,
) -> None:
    streams = OpenStreams(60)
    loop = asyncio.get_running_loop()
    earlier, later = (ProducerStream(epoch, loop.create_future()) for epoch in (1, 2))
    streams.take_over(tenant.app.id, "producer-1", later)
    streams.take_over(tenant.app.id, "producer-1", earlier)  # answered late
    assert earlier.end_request.done()
    assert not later.end_request.done()
    streams.leave(tenant.app.id, "producer-1", earlier.end_request)
    newest = ProducerStream(3, loop.create_future())
    streams.take_over(tenant.app.id, "producer-1", newest)
    assert later.end_request.done()
    assert not newest.end_request.done()


async def test_of_many_streams_opened_at_once_one_remains(
    stream: OpenStream, tenant: Tenant
) -> None:
    streams = [stream(tenant.key) for _ in range(24)]

    async def open_and_wait(one: Stream) -> End:
        await one.write(opening("producer-1"))
        return await one.end()

    ends = {asyncio.create_task(open_and_wait(one)): one for one in streams}
    remaining = set(ends)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(remaining) > 1:
            _, remaining = await asyncio.wait(remaining, return_when=asyncio.FIRST_COMPLETED)
    ended, [last] = await asyncio.wait(ends, timeout=0.3)
    assert {end.result().status for end in ended} == {ABORTED}
    await ends[last].send(sequence=1)
    await ends[last].done_writing()
    end = await last
    assert (end.status, len(end.acks)) == (OK, 1)
    assert len(await tenant.events()) == 1


async def test_an_organization_with_its_share_of_streams_may_open_one_when_one_has_ended(
    database_url: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "MAX_OPEN_STREAMS", 4)
    greedy, other = [await make_tenant(database_url) for _ in range(2)]
    with RunningService(database_url) as service:
        channel = connect(service.addresses).channel
        streams = [Stream(channel, greedy.key) for _ in range(2)]
        for number, one in enumerate(streams):
            await one.open(f"producer-{number}")
        end = await Stream(channel, greedy.key).end()
        assert (end.status, end.reason) == (UNAVAILABLE, "INTERNAL_ERROR")
        assert "Too many streams" in end.message
        assert await Stream(channel, other.key).open("producer-0") == 0
        await streams[0].close()

        async def opens() -> bool:
            return (await ended_at_once(Stream(channel, greedy.key))) is None

        await eventually(opens, "the place of the stream that has ended is free")


async def ended_at_once(one: Stream) -> End | None:
    """How a stream ended that was refused; None for one that opens."""
    try:
        await one.open("producer-1")
    except (AssertionError, grpc_library.aio.AioRpcError):
        return await one.end()
    return None


async def test_openings_that_wait_for_a_lock_leave_connections_to_others(
    database_url: str, connect: Connect
) -> None:
    locked, other = [await make_tenant(database_url) for _ in range(2)]
    with RunningService(database_url) as service:
        channel = connect(service.addresses).channel
        await Stream(channel, locked.key).open("first")
        begin = time.monotonic()
        await Stream(channel, other.key).open("first")
        usual = time.monotonic() - begin
        async with await locked.connect() as db, db.transaction():
            await db.execute(
                "SELECT FROM producer_counts WHERE organization_id = %s FOR UPDATE",
                (locked.organization.id,),
            )
            opening_ = [
                asyncio.create_task(Stream(channel, locked.key).open(f"producer-{number}"))
                for number in range(32)
            ]
            await until_somebody_waits_for(db, locked)
            begin = time.monotonic()
            await Stream(channel, other.key).open("producer-1")
            assert time.monotonic() - begin < max(1, SLOWEST_OF_USUAL * usual)
            assert not any(task.done() for task in opening_)
        assert await asyncio.gather(*opening_) == [0] * 32
