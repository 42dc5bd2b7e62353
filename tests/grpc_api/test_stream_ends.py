"""Streams that end for their age or their key, or that their client abandons."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import grpc as grpc_library
import pytest

from grpc_api import stream as event_stream
from tests.grpc_api.conftest import Connect, OpenStream
from tests.support.grpc_driver import GrpcDriver
from tests.support.manual_time import ManualTime
from tests.support.running_service import RunningService
from tests.support.service_tasks import (
    in_flight,
    message_waits,
    no_stream_tasks,
    stream_tasks,
    tasks,
    told_to_end,
)
from tests.support.stream_client import End, Stream, batch, flood, numbered
from tests.support.tcp_proxy import TcpProxy
from tests.support.tenant import Tenant, event, make_tenant, until_stored
from tests.support.waiting import IN_FORCE_SECONDS, eventually

pytestmark = pytest.mark.anyio
OK = grpc_library.StatusCode.OK
UNAVAILABLE = grpc_library.StatusCode.UNAVAILABLE


async def test_a_stream_of_the_largest_age_ends_with_all_its_acks(
    database_url: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "MAX_READ_ON_SECONDS", 0.3)
    tenant = await make_tenant(database_url)
    with RunningService(database_url, stream_max_seconds=0.7) as service:
        target = service.addresses.grpc
        idle = Stream(connect(service.addresses).channel, tenant.key)
        await idle.open("idle")
        acked = 0
        for _ in range(2):
            started = time.monotonic()
            end: End = await asyncio.to_thread(
                flood, target, tenant.key, numbered("producer-1", acked + 1)
            )
            assert (end.status, end.reason) == (UNAVAILABLE, "STREAM_TOO_OLD")
            assert 0.6 < time.monotonic() - started < 5
            assert end.acks
            acked += len(end.acks)
            assert end.acks[-1].sequence == acked == len(await tenant.events())
        assert (await idle.end()).reason == "STREAM_TOO_OLD"


half_closed_or_not = pytest.mark.parametrize("half_closed", [True, False])


async def _send(one: Stream, count: int, half_closed: bool) -> None:
    for _ in range(count):
        await one.send()
    if half_closed:
        await one.done_writing()


async def _gone(service: RunningService, task: str) -> None:
    """Wait until no stream has such a task."""

    async def is_gone() -> bool:
        return not (await tasks(service))[f"EventStream.{task}"]

    await eventually(is_gone, f"no stream has a task {task}")


@pytest.mark.parametrize("cause", ["drain", "age"])
@half_closed_or_not
async def test_what_is_in_flight_when_a_stream_must_end_is_committed_and_acked(
    cause: str, half_closed: bool, database_url: str, connect: Connect
) -> None:
    tenant = await make_tenant(database_url)
    seconds = 1.0 if cause == "age" else 60.0
    with RunningService(database_url, stream_max_seconds=seconds) as service:
        one = Stream(connect(service.addresses).channel, tenant.key)
        async with await tenant.connect() as db, db.transaction():
            await db.execute("LOCK TABLE events IN SHARE MODE")
            await _send(one, 5, half_closed)
            await in_flight(service, 5)
            if half_closed:
                await _gone(service, "_read")
            stopping = asyncio.create_task(
                asyncio.to_thread(service.stop if cause == "drain" else lambda: None)
            )
            await asyncio.sleep(1.2)
        end = await one.end()
        await stopping
    reason = "INTERNAL_ERROR" if cause == "drain" else "STREAM_TOO_OLD"
    expected = (OK, "") if half_closed else (UNAVAILABLE, reason)
    assert (end.status, end.reason) == expected
    assert len(end.acks) == len(await tenant.events()) == 5


@half_closed_or_not
async def test_a_stream_that_cannot_finish_at_its_age_is_unavailable(
    half_closed: bool, database_url: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "MAX_DRAIN_SECONDS", 0.3)
    monkeypatch.setattr(event_stream, "MAX_READ_ON_SECONDS", 0.3)
    tenant = await make_tenant(database_url)
    with RunningService(database_url, stream_max_seconds=0.5) as service:
        one = Stream(connect(service.addresses).channel, tenant.key)
        async with await tenant.connect() as db, db.transaction():
            await db.execute("LOCK TABLE events IN SHARE MODE")
            await _send(one, 2, half_closed)
            end = await one.end(seconds=4.5)  # without its bounds it would take longer
    assert (end.status, end.reason, end.acks) == (UNAVAILABLE, "STREAM_TOO_OLD", [])


@half_closed_or_not
async def test_a_paced_stream_of_the_largest_age_ends_when_all_that_came_is_acked(
    half_closed: bool, database_url: str, connect: Connect
) -> None:
    tenant = await make_tenant(database_url, key_requests_per_second=1)
    with RunningService(database_url, stream_max_seconds=1.5) as service:
        one = Stream(connect(service.addresses).channel, tenant.key)
        await _send(one, 3, half_closed)
        end = await one.end()
    expected = (OK, "") if half_closed else (UNAVAILABLE, "STREAM_TOO_OLD")
    assert (end.status, end.reason) == expected
    assert len(end.acks) == len(await tenant.events()) == 3


@half_closed_or_not
async def test_a_batch_that_waits_for_its_token_is_acked_when_the_service_stops(
    half_closed: bool, database_url: str, connect: Connect
) -> None:
    tenant = await make_tenant(database_url, key_requests_per_second=2)  # opening costs one
    moved = ManualTime()  # there are no more tokens than the test gives
    with RunningService(database_url, moved.clock) as service:
        one = Stream(connect(service.addresses).channel, tenant.key)
        await _send(one, 4, half_closed)
        await until_stored(tenant, 1)
        await message_waits(service)  # the second is read, the third must not be
        stopping = asyncio.create_task(asyncio.to_thread(service.stop))
        await told_to_end(service)
        while not stopping.done():
            moved.advance(0.5)  # a token, and then one for what must not be read any more
            await asyncio.sleep(0.1)
        await stopping
        end = await one.end()
    assert (end.status, end.reason) == (UNAVAILABLE, "INTERNAL_ERROR")
    assert len(end.acks) == len(await tenant.events()) == 2


@pytest.mark.timed
async def test_a_key_that_is_revoked_ends_a_stream_that_finishes_for_its_age(
    database_url: str, connect: Connect
) -> None:
    tenant = await make_tenant(database_url)
    with RunningService(database_url, stream_max_seconds=1.0) as service:
        one = Stream(connect(service.addresses).channel, tenant.key)
        async with await tenant.connect() as db, db.transaction():
            await db.execute("LOCK TABLE events IN SHARE MODE")
            await _send(one, 2, True)
            await in_flight(service, 2)
            await asyncio.sleep(1)  # past its age, and well before it is given up
            await tenant.revoke()
            end = await one.end(seconds=IN_FORCE_SECONDS + 0.5)
    assert (end.reason, end.acks) == ("KEY_REVOKED", [])


@pytest.mark.parametrize("way", ["cancelled", "cut"])
@pytest.mark.parametrize("moment", ["idle", "busy", "never reading"])
async def test_nothing_remains_of_an_abandoned_stream(
    way: str,
    moment: str,
    replica_service: RunningService,
    tenant: Tenant,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await no_stream_tasks(replica_service)
    before = sum((await tasks(replica_service)).values())
    async with TcpProxy(replica_service.addresses.grpc) as proxy:
        client = GrpcDriver(proxy.address)
        streams = [Stream(client.channel, tenant.key) for _ in range(3)]
        writing, batches_written = [], Counter[Stream]()
        for one in streams:
            await one.send()
            await one.ack()
            if moment != "idle":
                write = _write_forever(one, moment == "busy", batches_written)
                writing.append(asyncio.create_task(write))

        async def are_served() -> bool:
            enough = all(batches_written[one] >= 5 for one in streams) or moment == "idle"
            return enough and await stream_tasks(replica_service) >= 6

        await eventually(are_served, "every stream is served")
        if way == "cut":
            proxy.cut()
        else:
            for one in streams:
                one.cancel()
        await no_stream_tasks(replica_service)
        for task in writing:
            task.cancel()
        await asyncio.gather(*writing, return_exceptions=True)
        for one in streams:
            await one.close()
        await client.close()

    async def is_as_before() -> bool:
        return sum((await tasks(replica_service)).values()) <= before + 3

    await eventually(is_as_before, "no task is left of the streams")
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def _write_forever(one: Stream, reading: bool, batches_written: Counter[Stream]) -> None:
    message = batch([event(category="?")] * 100)
    while True:
        await one.call.write(message)
        batches_written[one] += 1
        if reading:
            await one.call.read()


async def test_an_abandoned_producer_can_go_on_at_once(stream: OpenStream, tenant: Tenant) -> None:
    sequence = 0
    for _ in range(5):
        one = stream(tenant.key)
        assert await one.open("producer-1") >= sequence
        assert one.opened is not None
        sequence = one.opened.last_sequence
        for number in range(1, 11):
            await one.send(sequence=sequence + number)
        await one.ack()
        one.cancel()
        sequence += 1
    # In one statement, for what was read may still be under way.
    rows = await tenant.rows(
        "SELECT sequence, (SELECT count(*) FROM events e "
        "WHERE e.organization_id = p.organization_id) AS stored "
        "FROM producers p WHERE organization_id = %s",
        tenant.organization.id,
    )
    assert [row["sequence"] for row in rows] == [row["stored"] for row in rows]
    assert rows[0]["sequence"] >= sequence
