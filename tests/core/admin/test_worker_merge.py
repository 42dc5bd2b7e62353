"""Merging two workers: all that was one's is the other's, and every name leads there."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest
from psycopg.errors import LockNotAvailable

from core import ids
from core.admin import worker_merge, worker_rename, workers
from core.admin.cell_sessions import CellSession
from core.admin.errors import AdministrationError, InvalidValueError, NotFoundError
from core.admin.worker_merge import Moved, merge
from core.journal import worker_changes
from core.journal import workers as journal_workers
from core.models import Worker, WorkerByEmail, WorkerById, WorkerByLink
from tests.support.cells import add_cell
from tests.support.direct_writer import DirectWriter
from tests.support.people import add_events, add_snapshot, add_worker
from tests.support.tenant import Tenant, make_tenant, now_us, until_somebody_waits_for
from tests.support.waiting import WAIT_SECONDS

pytestmark = pytest.mark.anyio


async def leads_to(cell: CellSession, tenant: Tenant, worker_id: UUID, *names: str) -> list[UUID]:
    """The workers whom events find by an id, and by e-mails and external ids."""
    owner, app = tenant.organization.id, tenant.app.id
    wanted = [
        WorkerById(owner, worker_id),
        *(
            WorkerByEmail(owner, one) if "@" in one else WorkerByLink(owner, app, one)
            for one in names
        ),
    ]
    found = await journal_workers.find(cell.db, wanted)
    assert all(isinstance(one, Worker) for one in found.values())
    return [found[name].id for name in wanted if name in found]


@pytest.mark.parametrize("cell_name", ["home", "north"])
async def test_all_of_a_worker_becomes_the_other_s(
    database_url: str, monkeypatch: pytest.MonkeyPatch, cell_name: str
) -> None:
    for bound in ("MAX_MOVED_AT_ONCE", "MAX_SNAPSHOTS_AT_ONCE"):
        monkeypatch.setattr(worker_merge, bound, 2)
    await add_cell(database_url, "north")
    tenant = await make_tenant(database_url, cell_name)
    owner, at = tenant.organization.id, now_us()
    async with tenant.in_cell() as cell:
        going = await add_worker(cell, tenant, "Z.", "zoe@old.example", "crm-1", "crm-2")
        staying = await add_worker(cell, tenant, "Zoe", "zoe@new.example", "crm-3")
        other = await add_worker(cell, tenant, "Alex", None, "crm-4")
        for worker_id, count in ((going, 5), (staying, 2), (other, 3)):
            await add_events(cell, tenant, worker_id, count)
        older = [await add_snapshot(cell, tenant, going, "a", at - 9 * second) for second in (2, 1)]
        newest = await add_snapshot(cell, tenant, staying, "a", at)
        moved = await add_snapshot(cell, tenant, going, "b", at + 1)
        await add_snapshot(cell, tenant, staying, "b", at - 1)
        alone = await add_snapshot(cell, tenant, going, "c", at)

        assert await merge(cell, owner, going, staying) == Moved(2, 5, 4)

        whose = [event["worker_id"] for event in await tenant.events()]
        assert (whose.count(staying), whose.count(other), len(whose)) == (7, 3, 10)
        assert {one["worker_id"] for one in await tenant.history()} == {staying}
        cards = await tenant.rows(
            "SELECT worker_id, snapshot_type, snapshot_id FROM snapshot_cards ORDER BY 2"
        )
        assert [tuple(card.values()) for card in cards] == [
            (staying, "a", newest),
            (staying, "b", moved),
            (staying, "c", alone),
        ]
        assert older[0] not in {newest, moved}
        names = ("crm-1", "crm-2", "crm-3", "zoe@old.example", "zoe@new.example")
        assert await leads_to(cell, tenant, going, *names) == [staying] * 6
        for given in (*names, ids.text(ids.WORKER, going)):
            found = await workers.find(cell.db, owner, given)
            assert (found.id, found.other_emails) == (staying, ("zoe@old.example",))
            assert [link.external_id for link in found.links] == ["crm-1", "crm-2", "crm-3"]
        listed = await workers.of_organization(cell.db, owner)
        assert [worker.display_name for worker in listed] == ["Alex", "Zoe"]
        [entry] = await (
            await cell.home.execute(
                "SELECT subject, after, done FROM audit WHERE action = 'worker.merge'"
            )
        ).fetchall()
        into = ids.text(ids.WORKER, staying)
        after = {"mergedInto": into, "links": 2, "events": 5, "snapshots": 4}
        assert entry == (ids.text(ids.WORKER, going), after, True)


async def test_a_worker_without_an_e_mail_takes_the_other_s(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    owner = tenant.organization.id
    async with tenant.in_cell() as cell:
        going = await add_worker(cell, tenant, "Z.", "Zoe@old.example")
        staying = await add_worker(cell, tenant, "Zoe", None)
        await merge(cell, owner, going, staying)
        found = await workers.find(cell.db, owner, "zoe@old.example")
        assert (found.id, found.email, found.other_emails) == (staying, "Zoe@old.example", ())


async def test_an_e_mail_of_a_merged_worker_can_become_the_worker_s_own(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    owner = tenant.organization.id
    async with tenant.in_cell() as cell:
        going = await add_worker(cell, tenant, "Z.", "zoe@old.example")
        staying = await add_worker(cell, tenant, "Zoe", "zoe@new.example")
        await merge(cell, owner, going, staying)
        renamed = await worker_rename.rename(cell, owner, staying, "Zoe", "zoe@old.example")
        assert (renamed.email, renamed.other_emails) == ("zoe@old.example", ())


async def test_an_interrupted_merge_is_finished_by_the_next(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = await make_tenant(database_url)
    owner = tenant.organization.id
    async with tenant.in_cell() as cell:
        going = await add_worker(cell, tenant, "Z.", None, "crm-1")
        staying = await add_worker(cell, tenant, "Zoe", None)
        last = await add_worker(cell, tenant, "Zoë", None)
        await add_events(cell, tenant, going, 3)

        async def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(worker_merge, "move_rows", interrupted)
            with pytest.raises(KeyboardInterrupt):
                await merge(cell, owner, going, staying)
        assert await leads_to(cell, tenant, going, "crm-1") == [staying] * 2
        assert len(await tenant.events()) == 3
        with pytest.raises(AdministrationError, match="was merged into"):
            await merge(cell, owner, going, last)
        found = await workers.find(cell.db, owner, ids.text(ids.WORKER, going), follow=False)
        assert (found.id, found.merged_into) == (going, staying)
        assert await merge(cell, owner, going, staying) == Moved(0, 3, 0)
        # Merged once more, its earlier names go with it.
        await merge(cell, owner, staying, last)
        assert {event["worker_id"] for event in await tenant.events()} == {last}
        assert await leads_to(cell, tenant, going, "crm-1") == [last] * 2


async def test_an_event_that_is_being_written_meanwhile_is_the_other_s(
    quota_of_five: DirectWriter,
) -> None:
    tenant = quota_of_five.tenant
    owner = tenant.organization.id
    await quota_of_five.write(quota_of_five.request(1))  # so that the worker is remembered
    [going] = await tenant.workers()
    async with tenant.in_cell() as cell, await tenant.connect() as blocker:
        staying = await add_worker(cell, tenant, "Zoe", None)
        await blocker.execute("BEGIN")
        await blocker.execute("SELECT FROM quota_usage FOR UPDATE")
        late = quota_of_five.write(quota_of_five.request(1), lock_seconds=WAIT_SECONDS)
        writing = asyncio.create_task(late)
        await until_somebody_waits_for(blocker, tenant)  # all but its charge is written
        merging = asyncio.create_task(merge(cell, owner, going["id"], staying))
        await asyncio.wait({merging}, timeout=2 * worker_changes.ALONE_LOCK_MS / 1_000)
        assert not merging.done()
        await blocker.execute("COMMIT")
        await writing
        assert (await merging).events == 2
    await quota_of_five.write(quota_of_five.request(1))
    assert [event["worker_id"] for event in await tenant.events()] == [staying] * 3


async def test_what_cannot_be_merged_is_refused_and_leaves_no_entry(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant, stranger = await make_tenant(database_url, "home"), await make_tenant(database_url)
    owner = tenant.organization.id
    async with tenant.in_cell() as cell:
        zoe = await add_worker(cell, tenant, "Zoe", None)
        alex = await add_worker(cell, tenant, "Alex", None)
        async with stranger.in_cell() as theirs:
            foreign = await add_worker(theirs, stranger, "Zoe", None)
        with pytest.raises(InvalidValueError):
            await merge(cell, owner, zoe, zoe)
        for pair in ((zoe, foreign), (foreign, zoe)):
            with pytest.raises(NotFoundError):
                await merge(cell, owner, *pair)
        monkeypatch.setattr(worker_changes, "MAX_ALONE_TRIES", 2)

        async with await tenant.connect() as blocker, worker_changes.alone(blocker, owner):
            with pytest.raises(AdministrationError, match="nothing was changed") as refused:
                await merge(cell, owner, zoe, alex)
        assert isinstance(refused.value.__cause__, LockNotAvailable)
        entries = await cell.home.execute("SELECT FROM audit WHERE action = 'worker.merge'")
        assert entries.rowcount == 0
