"""Workers are renamed, merged and erased beside two busy servers, and nothing is missed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from core import ids
from core.admin import erasure, worker_lock, worker_merge, worker_rename
from core.admin.worker_merge import merge
from core.journal import worker_changes
from core.journal.worker_changes import MAX_LOCKS
from tests.conftest import MakeTenant
from tests.support.driver import Driver
from tests.support.tenant import Tenant, event, snapshot, until_stored

pytestmark = pytest.mark.anyio

LOOPS = 6
BATCH = 20
GOING = [{"externalId": "going"}, {"email": "going@a.example"}]
STAYING = {"email": "staying@a.example"}


class Load:
    """Sends events and snapshots of a person, by every name, to both servers until stopped."""

    def __init__(self, replicas: tuple[Driver, Driver], tenant: Tenant) -> None:
        self._replicas = replicas
        self._tenant = tenant
        self._stopped = False
        self.accepted = 0

    async def _send(self, driver: Driver) -> None:
        while not self._stopped:
            batch = [event(actor=GOING[number % len(GOING)]) for number in range(BATCH)]
            reply = await driver.ingest(self._tenant.key, batch)
            assert reply.code is None, reply.message
            self.accepted += BATCH
            for actor in (*GOING, STAYING):
                reply = await driver.snapshot(self._tenant.key, snapshot(actor=actor))
                assert reply.code is None, reply.message

    @contextlib.asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        """It is sent within the block, before and after what is done there."""
        async with asyncio.TaskGroup() as group:
            for number in range(LOOPS):
                group.create_task(self._send(self._replicas[number % 2]))
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


async def card(tenant: Tenant) -> tuple[UUID, UUID]:
    """The worker and the snapshot of the one card that there is."""
    [row] = await tenant.rows(
        "SELECT worker_id, snapshot_id FROM snapshot_cards WHERE organization_id = %s",
        tenant.organization.id,
    )
    return row["worker_id"], row["snapshot_id"]


async def newest_snapshot(tenant: Tenant) -> UUID:
    """The newest of the history."""
    rows = await tenant.rows(
        "SELECT id FROM snapshot_history WHERE organization_id = %s ORDER BY occurred_at",
        tenant.organization.id,
    )
    newest = rows[-1]["id"]
    assert isinstance(newest, UUID)
    return newest


async def test_a_merge_under_load_misses_nothing(
    replicas: tuple[Driver, Driver], tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = replicas[0]
    monkeypatch.setattr(worker_merge, "MAX_MOVED_AT_ONCE", 200)
    both = {"externalId": "going", "email": "going@a.example"}
    [going, staying] = await of(driver, tenant, both, STAYING)
    load = Load(replicas, tenant)
    async with load.going_on(), tenant.in_cell() as cell:
        await merge(cell, tenant.organization.id, going, staying)
        assert going not in await whose(tenant)
    stored = await whose(tenant)
    assert (set(stored), len(stored)) == ({staying}, load.accepted + 2)
    assert {one["worker_id"] for one in await tenant.history()} == {staying}
    assert await card(tenant) == (staying, await newest_snapshot(tenant))
    by_id = {"workerId": ids.text(ids.WORKER, going)}
    new_link = {"externalId": "new", "email": "going@a.example"}
    for server in replicas:
        assert set(await of(server, tenant, by_id, *GOING, new_link)) == {staying}
    assert [one["display_name"] for one in await tenant.workers()] == ["going", "staying"]


async def test_an_erased_person_gets_nothing_more(
    replicas: tuple[Driver, Driver], tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = replicas[0]
    monkeypatch.setattr(erasure, "REJECTIONS_SECONDS", 0.0)
    both = {"externalId": "going", "email": "going@a.example"}
    [going] = await of(driver, tenant, both)
    load = Load(replicas, tenant)
    async with load.going_on(), tenant.in_cell() as cell:
        async with worker_lock.alone(cell, tenant.organization.id):
            before = (await whose(tenant)).count(going)
        await erasure.erase(cell, tenant.organization.id, going, 1)
        erased = (await whose(tenant)).count(going)
    stored = await whose(tenant)
    assert len(stored) == load.accepted + 1
    assert before <= erased == stored.count(going) < len(stored)
    by_id = event(actor={"workerId": ids.text(ids.WORKER, going)})
    for server in replicas:
        assert (await server.ingest(tenant.key, [by_id])).codes == ["worker_not_found"]
        assert going not in await of(server, tenant, *GOING)


async def test_a_new_name_is_answered_at_once(
    replicas: tuple[Driver, Driver], tenant: Tenant
) -> None:
    for server in replicas:
        first = await server.snapshot(tenant.key, snapshot(actor={"externalId": "zoe"}))
        assert first.body["worker"]["displayName"] == "zoe"
    [worker] = await tenant.workers()
    async with tenant.in_cell() as cell:
        await worker_rename.rename(cell, tenant.organization.id, worker["id"], "Zoe")
    for server in replicas:
        again = await server.snapshot(tenant.key, snapshot(actor={"externalId": "zoe"}))
        assert again.body["worker"]["displayName"] == "Zoe"


async def test_requests_wait_for_a_change_and_those_of_others_do_not(
    driver: Driver, tenant: Tenant, new_tenant: MakeTenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_changes, "_BOUND", ())  # however long it takes here
    other = await new_tenant()
    while (other.organization.id.int - tenant.organization.id.int) % MAX_LOCKS == 0:
        other = await new_tenant()
    for one in (tenant, other):  # so that nothing has to be looked up
        await of(driver, one, *GOING)
    async with tenant.in_cell() as cell:
        async with worker_lock.alone(cell, tenant.organization.id):
            waiting = asyncio.create_task(driver.ingest(tenant.key, [event()]))
            await of(driver, other, *GOING)
            assert not waiting.done()
        assert (await waiting).code is None
