"""Workers are renamed, merged and erased beside a server that is at it, and none is missed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from core import ids
from core.admin import erasure, worker_merge, workers
from core.admin.worker_merge import merge
from tests.support.driver import Driver
from tests.support.tenant import Tenant, event, snapshot, until_stored

pytestmark = pytest.mark.anyio

LOOPS = 6
BATCH = 20
GOING = [{"externalId": "going"}, {"email": "going@a.example"}]


class Load:
    """Sends events of a person, by every name, until it is stopped."""

    def __init__(self, driver: Driver, tenant: Tenant) -> None:
        self._driver = driver
        self._tenant = tenant
        self._stopped = False
        self.accepted = 0

    async def _send(self) -> None:
        while not self._stopped:
            batch = [event(actor=GOING[number % len(GOING)]) for number in range(BATCH)]
            reply = await self._driver.ingest(self._tenant.key, batch)
            assert reply.code is None, reply.message
            self.accepted += BATCH

    @contextlib.asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        """It is sent within the block, before and after what is done there."""
        async with asyncio.TaskGroup() as group:
            for _ in range(LOOPS):
                group.create_task(self._send())
            try:
                await until_stored(self._tenant, self.accepted + LOOPS * BATCH)
                yield
                await until_stored(self._tenant, self.accepted + LOOPS * BATCH)
            finally:
                self._stopped = True


async def whose(tenant: Tenant) -> list[UUID]:
    """The workers of the stored events, in order of receipt."""
    return [one["worker_id"] for one in await tenant.events()]


async def of(driver: Driver, tenant: Tenant, *actors: dict[str, str]) -> list[UUID]:
    """The workers that events about these actors are stored for."""
    found = []
    for actor in actors:
        reply = await driver.ingest(tenant.key, [event(actor=actor)])
        assert reply.code is None, reply.message
        found.append((await whose(tenant))[-1])
    return found


async def test_a_merge_under_load_misses_nothing(
    driver: Driver, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_merge, "MAX_MOVED_AT_ONCE", 200)
    both = {"externalId": "going", "email": "going@a.example"}
    [going, staying] = await of(driver, tenant, both, {"email": "staying@a.example"})
    load = Load(driver, tenant)
    async with load.going_on(), tenant.in_cell() as cell:
        await merge(cell, tenant.organization.id, going, staying)
        assert going not in await whose(tenant)
    stored = await whose(tenant)
    assert (set(stored), len(stored)) == ({staying}, load.accepted + 2)
    by_id = {"workerId": ids.text(ids.WORKER, going)}
    new_link = {"externalId": "new", "email": "going@a.example"}
    assert set(await of(driver, tenant, by_id, *GOING, new_link)) == {staying}
    assert [one["display_name"] for one in await tenant.workers()] == ["going", "staying"]


async def test_an_erased_person_gets_nothing_more(
    driver: Driver, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure, "REJECTIONS_SECONDS", 0.0)
    both = {"externalId": "going", "email": "going@a.example"}
    [going] = await of(driver, tenant, both)
    load = Load(driver, tenant)
    async with load.going_on(), tenant.in_cell() as cell:
        async with worker_merge.alone(cell, tenant.organization.id):
            before = (await whose(tenant)).count(going)
        await erasure.erase(cell, tenant.organization.id, going, 1)
        erased = (await whose(tenant)).count(going)
    stored = await whose(tenant)
    assert len(stored) == load.accepted + 1
    assert before <= erased == stored.count(going) < len(stored)
    reply = await driver.ingest(
        tenant.key, [event(actor={"workerId": ids.text(ids.WORKER, going)})]
    )
    assert reply.codes == ["worker_not_found"]
    assert going not in await of(driver, tenant, *GOING)


async def test_a_new_name_is_answered_at_once(driver: Driver, tenant: Tenant) -> None:
    first = await driver.snapshot(tenant.key, snapshot(actor={"externalId": "zoe"}))
    [worker] = await tenant.workers()
    assert first.body["worker"]["displayName"] == "zoe"
    async with tenant.in_cell() as cell:
        await workers.rename(cell, tenant.organization.id, worker["id"], "Zoe")
    again = await driver.snapshot(tenant.key, snapshot(actor={"externalId": "zoe"}))
    assert again.body["worker"]["displayName"] == "Zoe"
