"""Two services on one database behave as one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from tests.support.driver import Reply
from tests.support.http_driver import HttpDriver
from tests.support.running_service import RunningService
from tests.support.tenant import event, make_tenant

pytestmark = pytest.mark.anyio

Replicas = tuple[HttpDriver, HttpDriver]


@pytest.fixture
async def replicas(database_url: str) -> AsyncIterator[Replicas]:
    with RunningService(database_url) as one, RunningService(database_url) as other:
        drivers = HttpDriver(one.addresses.http), HttpDriver(other.addresses.http)
        yield drivers
        for driver in drivers:
            await driver.close()


async def test_the_quota_is_exact_across_replicas(database_url: str, replicas: Replicas) -> None:
    tenant = await make_tenant(database_url, monthly_quota=500)
    replies = await asyncio.gather(
        *(replicas[n % 2].ingest(tenant.key, [event(f"w-{n}")] * 7) for n in range(100))
    )
    accepted = sum(len(reply.accepted) for reply in replies)
    assert accepted == len(await tenant.events()) == await tenant.used() == 500
    refused = [rejected.code for reply in replies for rejected in reply.rejected]
    assert set(refused) == {"quota_exceeded"}
    assert len(refused) == 200


async def test_an_idempotency_key_is_written_once_across_replicas(
    database_url: str, replicas: Replicas
) -> None:
    tenant = await make_tenant(database_url)

    async def send(batch: int, replica: int) -> Reply:
        events = [event(f"w-{batch}"), event("same")]
        return await replicas[replica].ingest(tenant.key, events, f"batch-{batch}")

    for round_ in range(3):
        batches = range(20 * round_, 20 * round_ + 20)
        replies = await asyncio.gather(*(send(b, r) for b in batches for r in (0, 1, 0, 1)))
        for begin in range(0, len(replies), 4):
            same = replies[begin : begin + 4]
            assert len({str(reply.answer) for reply in same}) == 1
            assert [reply.replayed for reply in same].count(False) == 1
    assert len(await tenant.events()) == await tenant.used() == 120
    assert len(await tenant.workers()) == 61


async def test_a_person_is_made_once_across_replicas(database_url: str, replicas: Replicas) -> None:
    tenant = await make_tenant(database_url)
    await asyncio.gather(
        *(
            replicas[n % 2].ingest(tenant.key, [event(f"new-{i}") for i in range(20)])
            for n in range(10)
        )
    )
    assert len(await tenant.workers()) == 20


@pytest.mark.timed
async def test_a_revocation_reaches_every_replica_within_a_second(
    database_url: str, replicas: Replicas
) -> None:
    tenant = await make_tenant(database_url)
    for replica in replicas:
        assert (await replica.ping(tenant.key)).code is None
    await tenant.revoke()
    revoked = time.monotonic()
    waiting = set(replicas)
    while waiting:
        for replica in tuple(waiting):
            sent = time.monotonic()
            if (await replica.ping(tenant.key)).code == "key_revoked":
                waiting.remove(replica)
            else:
                assert sent < revoked + 1
        await asyncio.sleep(0.01)
