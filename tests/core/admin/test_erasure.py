"""The erasure of a worker: nothing in any table tells of the person, and the rest stays."""

from __future__ import annotations

from uuid import UUID

import msgspec
import pytest
from psycopg import sql

from core import ids
from core.admin import erasure, worker_merge, worker_rename, workers
from core.admin.cell_sessions import CellSession
from core.admin.erasure import ERASED_NAME, Erased, erase
from core.admin.errors import AdministrationError, NotFoundError
from core.journal import workers as journal_workers
from core.journal.stored_receipt import StoredReceipt
from core.models import Actor, Worker, WorkerByEmail, WorkerById, WorkerByLink, WorkerName
from tests.support.cells import add_cell
from tests.support.people import add_events, add_snapshot, add_worker
from tests.support.tenant import Tenant, make_tenant, now_us

pytestmark = pytest.mark.anyio

METRICS = '{"open":12.50,"mood":"Zoe is tired","load":{"value":0.10,"unit":"score","label":"Zoe"}}'


@pytest.fixture(autouse=True)
def _no_servers_to_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasure, "REJECTIONS_SECONDS", 0.0)


async def told(cell: CellSession, *texts: str) -> list[str]:
    """The tables of the cell in which a row has one of the texts, in whatever column."""
    found = []
    cursor = await cell.db.execute(
        "SELECT tablename FROM pg_tables WHERE schemaname = current_schema() ORDER BY 1"
    )
    for (table,) in await cursor.fetchall():
        query = sql.SQL("SELECT count(*) FROM {} AS one WHERE one::text ILIKE ANY (%s)")
        patterns = [f"%{text}%" for text in texts]
        row = await (
            await cell.db.execute(query.format(sql.Identifier(table)), (patterns,))
        ).fetchone()
        if row is not None and row[0]:
            found.append(table)
    return found


async def furnish(cell: CellSession, tenant: Tenant) -> UUID:
    """A person in every table that can tell of one."""
    owner = tenant.organization.id
    zoe = await add_worker(cell, tenant, "Zoe", "zoe@a.example", "crm-zoe", "hr-zoe")
    await add_events(cell, tenant, zoe, 5)
    for second in range(5):
        await add_snapshot(cell, tenant, zoe, "load", now_us() + second, METRICS, {"who": "Zoe"})
    receipt = StoredReceipt("req", now_us(), (), Worker(zoe, "Zoe"))
    await cell.db.execute(
        "INSERT INTO idempotency_keys (organization_id, key_id, endpoint, idempotency_key, digest,"
        " receipt, created_at) VALUES (%s, %s, 'snapshots', 'k', '', %s, now())",
        (owner, tenant.api_key.id, msgspec.json.encode(receipt).decode()),
    )
    await cell.db.execute(
        "INSERT INTO rejections (organization_id, id, request_id, code, message, app_slug,"
        " key_hint, item) VALUES (%s, %s, 'r', 'c', 'm', 's', 'h', '{\"email\": \"zoe@A')",
        (owner, ids.new(now_us())),
    )
    return zoe


@pytest.mark.parametrize("cell_name", ["home", "north"])
async def test_nothing_tells_of_an_erased_person(
    database_url: str, monkeypatch: pytest.MonkeyPatch, cell_name: str
) -> None:
    for bound in ("MAX_EVENTS_AT_ONCE", "MAX_SNAPSHOTS_AT_ONCE"):
        monkeypatch.setattr(erasure, bound, 2)
    await add_cell(database_url, "north")
    tenant = await make_tenant(database_url, cell_name)
    owner = tenant.organization.id
    async with tenant.in_cell() as cell:
        zoe = await furnish(cell, tenant)
        also = await add_worker(cell, tenant, "Zoe Z.", "zoe@b.example", "crm-zoe-2")
        alex = await add_worker(cell, tenant, "Alex", "alex@a.example", "crm-alex")
        for worker_id in (also, alex):
            await add_events(cell, tenant, worker_id, 1)
        await worker_merge.merge(cell, owner, also, zoe)
        assert len(await told(cell, "zoe")) > 5

        erased = await erase(cell, owner, zoe, now_us())

        assert erased == Erased(2, 2, 3, 6, 5, 1, 1)
        [others] = [one for one in await tenant.events() if one["worker_id"] == alex]
        assert others["metadata"] == '{"who": "Zoe"}'  # what others' events say is not looked at
        await cell.db.execute("UPDATE events SET metadata = NULL WHERE worker_id = %s", (alex,))
        assert await told(cell, "zoe") == []
        assert len(await tenant.events()) == 7
        assert {one["metrics"] for one in await tenant.history()} == {
            '{"open":12.50,"load":{"value":0.10,"unit":"score"}}'
        }
        [stored] = await tenant.rows("SELECT receipt::text AS text FROM idempotency_keys")
        kept = msgspec.json.decode(stored["text"], type=StoredReceipt)
        assert kept.worker == Worker(zoe, ERASED_NAME)
        listed = await workers.of_organization(cell.db, owner)
        assert [worker.id for worker in listed] == [alex]
        found = await workers.find(cell.db, owner, ids.text(ids.WORKER, zoe))
        assert (found.display_name, found.email, found.other_emails) == (ERASED_NAME, None, ())
        assert found.erased_at is not None
        with pytest.raises(NotFoundError, match="was erased"):
            await worker_rename.rename(cell, owner, zoe, "Zoe")
        for pair in ((zoe, alex), (alex, zoe)):
            with pytest.raises(AdministrationError, match="was erased"):
                await worker_merge.merge(cell, owner, *pair)
        assert await erase(cell, owner, zoe, now_us()) == Erased(0, 0, 0, 0, 0, 0, 0)

        [entry, _] = await (
            await cell.home.execute(
                "SELECT subject, before, after, done FROM audit WHERE action = 'worker.erase'"
                " ORDER BY id"
            )
        ).fetchall()
        assert (entry[0], entry[2:]) == (ids.text(ids.WORKER, zoe), (None, True))
        assert (entry[1]["event_contents"], entry[1]["contentKept"]) == (6, False)


async def test_the_names_of_an_erased_person_are_somebody_new_s(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    owner, app = tenant.organization.id, tenant.app.id
    async with tenant.in_cell() as cell:
        zoe = await furnish(cell, tenant)
        await erase(cell, owner, zoe, now_us())
        link, address = WorkerByLink(owner, app, "crm-zoe"), WorkerByEmail(owner, "zoe@a.example")
        missing: dict[WorkerName, Actor] = {
            link: Actor(external_id="crm-zoe"),
            address: Actor(email="zoe@a.example"),
        }
        assert await journal_workers.find(cell.db, [*missing, WorkerById(owner, zoe)]) == {}
        async with cell.db.transaction():
            made = await journal_workers.provide(cell.db, missing, now_us())
        assert zoe not in {worker.id for worker in made.values()}


async def test_content_can_be_kept(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    async with tenant.in_cell() as cell:
        zoe = await furnish(cell, tenant)
        erased = await erase(cell, tenant.organization.id, zoe, now_us(), keep_content=True)
        assert erased == Erased(1, 1, 2, 0, 0, 1, 1)
        assert {one["metrics"] for one in await tenant.history()} == {METRICS}
        assert all(one["metadata"] for one in await tenant.events())


async def test_an_interrupted_erasure_is_finished_by_the_next(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = await make_tenant(database_url)
    owner = tenant.organization.id
    async with tenant.in_cell() as cell:
        zoe = await furnish(cell, tenant)
        also = await add_worker(cell, tenant, "Zoe Z.", None)
        await add_events(cell, tenant, also, 2)

        async def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(worker_merge, "move_rows", interrupted)
            for work in (worker_merge.merge(cell, owner, also, zoe), erase(cell, owner, zoe, 1)):
                with pytest.raises(KeyboardInterrupt):
                    await work
        assert (await erase(cell, owner, zoe, now_us())).event_contents == 7
        assert await told(cell, "zoe") == []
        assert {event["worker_id"] for event in await tenant.events()} == {zoe}
        with pytest.raises(NotFoundError):
            await erase(cell, owner, owner, now_us())
        with pytest.raises(AdministrationError, match="erase that one"):
            await erase(cell, owner, also, now_us())
