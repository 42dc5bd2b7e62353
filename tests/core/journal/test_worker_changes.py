"""Changes of workers, and transactions that recall workers from before."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest

from core.journal import worker_changes, writer
from core.journal.transaction import Transaction
from core.journal.worker_changes import WorkersChangedError
from core.journal.workers import WorkerCache
from core.models import Actor, Receipt, Worker, WorkerByEmail
from tests.support.direct_writer import DirectWriter
from tests.support.tenant import until_somebody_waits_for
from tests.support.waiting import WAIT_SECONDS

pytestmark = pytest.mark.anyio


def test_an_organization_s_workers_are_remembered_as_of_its_count_alone() -> None:
    cache, worker = WorkerCache(), Worker(UUID(int=9), "A")
    acme, other = (WorkerByEmail(UUID(int=number), "a@b.c") for number in (1, 2))
    changes = {acme.organization_id: 0, other.organization_id: 0}
    cache.remember({acme: worker, other: worker}, changes)
    cache.renew({acme.organization_id: 4})
    assert (cache.get(acme), cache.get(other)) == (None, worker)
    cache.remember({acme: worker}, {acme.organization_id: 0})  # of a transaction from before
    assert cache.get(acme) is None
    cache.remember({acme: worker}, {acme.organization_id: 4})
    assert cache.get(acme) == worker


@pytest.mark.usefixtures("each_mode")
async def test_a_transaction_looks_changed_workers_up_anew(quota_of_five: DirectWriter) -> None:
    tenant = quota_of_five.tenant
    await quota_of_five.write(quota_of_five.request(1))
    [first] = await tenant.workers()
    await tenant.rows("DELETE FROM worker_links WHERE worker_id = %s", first["id"])
    await quota_of_five.write(quota_of_five.request(1))  # remembered
    async with await tenant.connect() as db:
        await worker_changes.count(db, tenant.organization.id)
    for _ in range(2):
        [receipt] = await quota_of_five.write(quota_of_five.request(1))
        assert isinstance(receipt, Receipt)
    _, second = await tenant.workers()
    whose = [event["worker_id"] for event in await tenant.events()]
    assert whose == [first["id"]] * 2 + [second["id"]] * 2


async def test_a_transaction_gives_up_if_workers_change_again_and_again(
    quota_of_five: DirectWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    await quota_of_five.write(quota_of_five.request(1))  # so that the worker is remembered
    monkeypatch.setattr(WorkerCache, "renew", lambda cache, changes: None)
    async with await quota_of_five.tenant.connect() as db:
        await worker_changes.count(db, quota_of_five.tenant.organization.id)
    with pytest.raises(WorkersChangedError):
        await quota_of_five.write(quota_of_five.request(1))
    assert len(await quota_of_five.tenant.events()) == 1


@pytest.mark.usefixtures("each_mode")
async def test_a_transaction_is_written_however_often_workers_change(
    quota_of_five: DirectWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = 0
    async with await quota_of_five.tenant.connect() as db:

        class Overtaken(Transaction):
            async def write(self, *given: Any) -> None:
                nonlocal attempts
                attempts += 1
                await worker_changes.count(db, quota_of_five.tenant.organization.id)
                await super().write(*given)

        monkeypatch.setattr(writer, "Transaction", Overtaken)
        [receipt] = await quota_of_five.write(quota_of_five.request(1))
    assert isinstance(receipt, Receipt)
    assert attempts in (2, 3)  # one is optimistic, or none


async def test_a_transaction_that_recalls_nobody_is_written_at_once(
    quota_of_five: DirectWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a process that has just started."""
    async with await quota_of_five.tenant.connect() as db:
        await worker_changes.count(db, quota_of_five.tenant.organization.id)
    monkeypatch.setattr(writer, "MAX_ATTEMPTS", 1)
    for _ in range(2):
        [receipt] = await quota_of_five.write(quota_of_five.request(1))
        assert isinstance(receipt, Receipt)
    assert len({event["worker_id"] for event in await quota_of_five.tenant.events()}) == 1


async def test_a_change_waits_for_transactions_from_before_and_keeps_others_out(
    quota_of_five: DirectWriter,
) -> None:
    tenant = quota_of_five.tenant
    organization = tenant.organization.id
    await quota_of_five.write(quota_of_five.request(1))  # so that the worker is remembered
    async with await tenant.connect() as blocker, await tenant.connect() as db:
        await blocker.execute("BEGIN")
        await blocker.execute("SELECT FROM quota_usage FOR UPDATE")
        waiting = quota_of_five.write(quota_of_five.request(1), lock_seconds=WAIT_SECONDS)
        writing = asyncio.create_task(waiting)
        await until_somebody_waits_for(blocker, tenant)

        async def change() -> int:
            async with worker_changes.alone(db, organization):
                return len(await tenant.events())

        changing = asyncio.create_task(change())
        done, _ = await asyncio.wait({changing}, timeout=2 * worker_changes.ALONE_LOCK_MS / 1_000)
        assert not done
        await blocker.execute("COMMIT")
        await writing
        assert await changing == 2

        async with worker_changes.alone(db, organization):
            new = quota_of_five.request(1, actor=Actor(external_id="crm-user-2"))
            late = asyncio.create_task(quota_of_five.write(new, lock_seconds=WAIT_SECONDS))
            await until_somebody_waits_for(db, tenant)
            assert len(await tenant.events()) == 2
        await late
    assert len(await tenant.events()) == 3
