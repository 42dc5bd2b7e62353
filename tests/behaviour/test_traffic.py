"""What operators see of requests and streams that were answered: traffic, and keys in use."""

from __future__ import annotations

import pytest

from core.admin import keys, traffic
from core.admin.traffic import AppMinute
from core.timestamps import from_datetime
from tests.support.driver import Driver
from tests.support.grpc_driver import GrpcDriver
from tests.support.stream_client import Stream
from tests.support.tenant import Tenant, event, now_us, snapshot
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio


async def minutes(tenant: Tenant, requests: int) -> list[AppMinute]:
    """The traffic of the tenant's apps, once there are so many requests of them."""
    found: list[AppMinute] = []

    async def are_there() -> bool:
        async with tenant.in_cell() as cell:
            found[:] = await traffic.recent(cell.db, tenant.organization.id, 10, now_us())
        return sum(one.requests for one in found) >= requests

    await eventually(are_there, "the traffic is written")
    return found


def totals(found: list[AppMinute]) -> tuple[int, int, int]:
    """The requests, and their accepted and rejected events."""
    return (
        sum(one.requests for one in found),
        sum(one.accepted for one in found),
        sum(one.rejected for one in found),
    )


async def test_answered_requests_are_the_traffic_of_their_app(
    driver: Driver, tenant: Tenant
) -> None:
    other = await tenant.another_app()
    wrong = event(category="x")
    await driver.ingest(tenant.key, [event(), event(), wrong], "k")
    await driver.ingest(tenant.key, [event(), event(), wrong], "k")  # stored once, asked twice
    await driver.ingest(tenant.key, [wrong, wrong])
    await driver.snapshot(tenant.key, snapshot())
    await driver.snapshot(tenant.key, snapshot(snapshotType="x"))
    await driver.ping(tenant.key)
    await driver.ingest(other.key, [event()])
    found = await minutes(tenant, 6)
    by_app = {
        app.app.slug: totals([one for one in found if one.app_id == app.app.id])
        for app in (tenant, other)
    }
    assert by_app == {tenant.app.slug: (5, 3, 4), other.app.slug: (1, 1, 0)}
    for one in found:
        assert 0 < one.mean_milliseconds <= one.slowest_milliseconds < 60_000


async def test_two_processes_add_to_the_same_traffic(
    replicas: tuple[Driver, Driver], tenant: Tenant
) -> None:
    for process in replicas * 2:
        await process.ingest(tenant.key, [event()])
    assert totals(await minutes(tenant, 4)) == (4, 4, 0)


async def test_batches_of_a_stream_are_requests(grpc: GrpcDriver, tenant: Tenant) -> None:
    stream = Stream(grpc.channel, tenant.key)
    for events in ([event()] * 3, [event(category="x")]):
        await stream.send(*events)
        await stream.ack()
    assert totals(await minutes(tenant, 2)) == (2, 3, 1)
    await stream.close()


async def test_a_batch_that_was_committed_before_is_a_request_without_events(
    grpc: GrpcDriver, tenant: Tenant
) -> None:
    for _ in range(2):
        stream = Stream(grpc.channel, tenant.key)
        await stream.open("producer")
        await stream.send(event(), sequence=1)
        await stream.ack()
        await stream.close()
    assert totals(await minutes(tenant, 2)) == (2, 1, 0)


async def last_used_us(tenant: Tenant) -> int | None:
    """The last use of the tenant's key, as operators read it."""
    async with tenant.in_cell() as cell:
        found = await keys.of_app(cell.db, tenant.app)
    [used_at] = [one.last_used_at for one in found if one.id == tenant.api_key.id]
    return None if used_at is None else from_datetime(used_at)


async def test_a_key_that_is_let_in_is_in_use_and_a_refused_one_is_not(
    driver: Driver, tenant: Tenant
) -> None:
    revoked = await tenant.another_key()
    await revoked.revoke()

    async def is_refused() -> bool:
        return (await driver.ping(revoked.key)).code == "key_revoked"

    await eventually(is_refused, "the key is refused")
    assert await last_used_us(tenant) is None
    begin_us = now_us()
    await driver.ping(tenant.key)

    async def is_used() -> bool:
        return (await last_used_us(tenant) or 0) >= begin_us

    await eventually(is_used, "the use is written")
    assert await last_used_us(revoked) is None


async def test_a_stream_uses_its_key(grpc: GrpcDriver, tenant: Tenant) -> None:
    stream = Stream(grpc.channel, tenant.key)
    await stream.send(event())
    await stream.ack()

    async def is_used() -> bool:
        return await last_used_us(tenant) is not None

    await eventually(is_used, "the use is written")
    await stream.close()
