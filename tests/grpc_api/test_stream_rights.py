"""An operator's change is in force on open streams within a second (contract section 4)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import grpc as grpc_library
import pytest

from grpc_api.stream import MAX_IN_FLIGHT
from tests.conftest import MakeTenant
from tests.grpc_api.conftest import Connect, OpenStream
from tests.support.grpc_driver import GrpcDriver
from tests.support.running_service import Addresses, RunningService
from tests.support.service_tasks import no_stream_tasks, stream_tasks
from tests.support.stream_client import Stream, batch, flood, numbered
from tests.support.tenant import Tenant, event, now_us, until_forbidden, until_stored
from tests.support.waiting import IN_FORCE_SECONDS, eventually

pytestmark = pytest.mark.anyio

UNAUTHENTICATED = grpc_library.StatusCode.UNAUTHENTICATED
FAILED_PRECONDITION = grpc_library.StatusCode.FAILED_PRECONDITION

Change = Callable[[Tenant], Awaitable[None]]
CHANGES: dict[str, tuple[Change, grpc_library.StatusCode]] = {
    "KEY_REVOKED": (Tenant.revoke, UNAUTHENTICATED),
    "KEY_EXPIRED": (Tenant.expire, UNAUTHENTICATED),
    "PLAN_DISABLED": (lambda tenant: tenant.update(developer_api=False), FAILED_PRECONDITION),
}


@pytest.mark.timed
@pytest.mark.parametrize("reason", CHANGES)
async def test_an_idle_stream_ends_within_a_second(
    reason: str, stream: OpenStream, tenant: Tenant
) -> None:
    change, status = CHANGES[reason]
    one = stream(tenant.key)
    await one.send()
    await one.ack()
    await change(tenant)
    end = await one.end(seconds=IN_FORCE_SECONDS)
    assert (end.status, end.reason, end.acks) == (status, reason, [])


@pytest.mark.timed
@pytest.mark.parametrize("reason", CHANGES)
async def test_a_busy_stream_ends_within_a_second(
    reason: str, server: Addresses, tenant: Tenant
) -> None:
    change, status = CHANGES[reason]
    flooding = asyncio.create_task(
        asyncio.to_thread(flood, server.grpc, tenant.key, numbered("producer-1"))
    )
    await until_stored(tenant, 1)
    await change(tenant)
    changed = time.monotonic()
    end = await flooding
    # What the acks on the road take comes on top.
    assert time.monotonic() - changed < IN_FORCE_SECONDS + 0.5
    assert (end.status, end.reason) == (status, reason)
    assert [ack.sequence for ack in end.acks] == list(range(1, len(end.acks) + 1))
    # The journal finishes the transactions it has begun, though their acks are lost.
    stored = -1
    while stored != (now := len(await tenant.events())):
        stored = now
        await asyncio.sleep(0.5)
    assert len(end.acks) <= stored <= len(end.acks) + MAX_IN_FLIGHT


@pytest.mark.timed
async def test_a_key_that_expires_by_itself_ends_its_stream(
    stream: OpenStream, new_tenant: MakeTenant
) -> None:
    expires_us = now_us() + 2_000_000  # time for an ack before that
    tenant = await new_tenant(expires_us=expires_us)
    one = stream(tenant.key)
    await one.send()
    await one.ack()
    end = await one.end(seconds=(expires_us - now_us()) / 1_000_000 + IN_FORCE_SECONDS)
    assert end.reason == "KEY_EXPIRED"
    assert now_us() >= expires_us


@pytest.mark.timed
async def test_the_whitelist_of_the_moment_applies(stream: OpenStream, tenant: Tenant) -> None:
    one = stream(tenant.key)

    async def until(accepted: int) -> None:
        deadline = time.monotonic() + 1
        while True:
            sent = time.monotonic()
            await one.send(event(eventType="deal.won"))
            if (ack := await one.ack()).accepted == accepted:
                return
            assert sent < deadline, ack  # what was sent in time may be acked later

    await until(1)
    await tenant.deny("deal.won")
    await until(0)
    await tenant.allow("deal.won")
    await until(1)


async def test_an_idle_stream_meets_the_whitelist_of_its_next_batch(
    stream: OpenStream, grpc: GrpcDriver, tenant: Tenant
) -> None:
    one = stream(tenant.key)
    await one.send(event(eventType="deal.won"))
    assert (await one.ack()).accepted == 1
    await tenant.deny("deal.won")
    await until_forbidden(grpc, tenant.key, "deal.won")
    await one.send(event(eventType="deal.won"))
    assert [rejected.code for rejected in (await one.ack()).rejected] == ["forbidden_event_type"]


async def test_changes_apply_while_nobody_reads_the_acks(
    stream: OpenStream, grpc: GrpcDriver, tenant: Tenant
) -> None:
    one = stream(tenant.key)
    for _ in range(3):
        await one.send(event(eventType="deal.won"))
    await until_stored(tenant, 3)
    await tenant.deny("deal.won")
    await until_forbidden(grpc, tenant.key, "deal.won")
    for _ in range(3):
        await one.send(event(eventType="deal.won"))
    acks = [await one.ack() for _ in range(6)]
    assert [ack.accepted for ack in acks] == [1, 1, 1, 0, 0, 0]
    await one.send()
    await until_stored(tenant, 4)
    await tenant.revoke()

    async def is_revoked() -> bool:
        return (await grpc.ping(tenant.key)).code == "key_revoked"

    await eventually(is_revoked, "the key is refused")
    end = await one.end()
    assert (end.reason, len(end.acks)) == ("KEY_REVOKED", 1)


@pytest.mark.timed
async def test_a_stream_blocked_on_a_client_that_never_reads_ends_all_the_same(
    replica_service: RunningService, connect: Connect, tenant: Tenant
) -> None:
    one = Stream(connect(replica_service.addresses).channel, tenant.key)
    wide = batch([event(category="?")] * 500)  # small batches with large acks
    offered = 0

    async def offer() -> None:
        nonlocal offered
        while True:
            await one.call.write(wide)
            offered += 1

    offering = asyncio.create_task(offer())
    seen = -1
    while offered != seen:  # until flow control stops it
        seen = offered
        await asyncio.sleep(1.5)
    assert await stream_tasks(replica_service)
    await tenant.revoke()
    await no_stream_tasks(replica_service, seconds=IN_FORCE_SECONDS + 0.5)
    assert offered <= seen + 1  # the write that was blocked may have ended with the stream
    offering.cancel()


@pytest.mark.timed
async def test_a_paced_stream_ends_while_it_waits_for_a_token(
    server: Addresses, new_tenant: MakeTenant
) -> None:
    tenant = await new_tenant(key_requests_per_second=1)
    flooding = asyncio.create_task(
        asyncio.to_thread(flood, server.grpc, tenant.key, numbered("producer-1"))
    )
    await until_stored(tenant, 1)
    await tenant.revoke()
    async with asyncio.timeout(IN_FORCE_SECONDS + 0.5):
        assert (await flooding).reason == "KEY_REVOKED"
    assert len(await tenant.events()) <= 4
