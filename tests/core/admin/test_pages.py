"""Lists a page at a time: each row once, in the order of the index, and a dead cell left out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import UUID

import pytest
from msgspec import structs

from core import ids
from core.admin import apps, audit, keys, organizations, rejections, snapshots, workers
from core.admin.cell_sessions import CellSessions, at_home
from core.admin.errors import NotFoundError
from core.admin.pages import Page, page_of
from core.error_codes import ErrorCode
from core.errors import IngestError
from core.journal.rejection_log import RejectionLog
from core.postgres.directory import CellRecord
from core.postgres.sessions import Connection
from tests.support.cells import add_cell, enter_cell, make_tenant_in
from tests.support.database import connect
from tests.support.manual_time import ManualTime
from tests.support.strategies import CALLER
from tests.support.tenant import Tenant, make_tenant, now_us

pytestmark = pytest.mark.anyio

Fetch = Callable[[Any, int], Awaitable[Sequence[Any]]]  # after a key, so many


async def in_pages(fetch: Fetch, key: Callable[[Any], Any], limit: int = 2) -> list[Any]:
    """All rows, by pages of that length."""
    rows: list[Any] = []
    after = None
    while True:
        page = page_of(await fetch(after, limit + 1), limit, key)
        assert len(page.items) <= limit
        rows += page.items
        if page.after is None:
            return rows
        after = page.after


def test_a_page_tells_where_the_next_begins() -> None:
    assert page_of([1, 2, 3], 2, str) == Page([1, 2], "2")
    assert page_of([1, 2], 2, str) == Page([1, 2], None)
    assert page_of([], 2, str) == Page([], None)


async def test_apps_keys_and_workers_come_page_by_page(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    await make_tenant(database_url, cell_name=tenant.cell.name)  # whose rows are no part of it
    others = [await tenant.another_app() for _ in range(2)]
    other_key = await tenant.another_key()
    owner = tenant.organization.id
    async with await tenant.connect() as db:
        found = await in_pages(lambda a, n: apps.page(db, owner, n, a), lambda app: app.slug)
        assert found == await apps.of_organization(db, owner)
        assert await apps.get(db, owner, others[0].app.id) == others[0].app

        every = [one.api_key for one in (tenant, *others, other_key)]
        found = await in_pages(lambda a, n: keys.page(db, owner, None, n, a), lambda k: k.id)
        assert found == sorted(every, key=lambda k: k.id)
        app_id = tenant.app.id
        found = await in_pages(lambda a, n: keys.page(db, owner, app_id, n, a), lambda k: k.id)
        assert found == [tenant.api_key, other_key.api_key]
        assert await keys.get(db, owner, other_key.api_key.id) == other_key.api_key

        made = [
            await workers.create(at_home(db), owner, name, email, now_us() + 1_000 * number)
            for number, (name, email) in enumerate(
                [("Zoe", "zoe@b.c"), ("Alex", None), ("Álvaro", "Zoltan@b.c")]
            )
        ]
        found = await in_pages(lambda a, n: workers.page(db, owner, n, a), lambda w: w.id)
        assert found == made
        assert await workers.page(db, owner, 9, None, "zo") == [made[0], made[2]]
        assert await workers.page(db, owner, 9, None, "%") == []
        assert await workers.get(db, owner, made[1].id) == made[1]


async def test_ids_of_nothing_are_refused(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    stranger = await make_tenant(database_url, cell_name=tenant.cell.name)
    owner = tenant.organization.id
    async with await tenant.connect() as db, CellSessions(db, database_url, 10) as cells:
        for look_up in (
            apps.get(db, owner, stranger.app.id),
            keys.get(db, owner, stranger.api_key.id),
            workers.get(db, owner, ids.MAX),
            organizations.get(cells, ids.NIL),
        ):
            with pytest.raises(NotFoundError, match="there is no"):
                await look_up


async def stored(tenant: Tenant, db: Connection, worker_id: UUID, kind: str) -> UUID:
    """A snapshot of that kind, which is a card."""
    organization, app, snapshot = tenant.organization.id, tenant.app.id, ids.new(now_us())
    await db.execute(
        "INSERT INTO snapshot_history VALUES (%s, %s, %s, %s, %s, now(), '{}', NULL)",
        (organization, snapshot, app, worker_id, kind),
    )
    await db.execute(
        "INSERT INTO snapshot_cards (organization_id, worker_id, app_id, snapshot_type, "
        "snapshot_id, occurred_at) VALUES (%s, %s, %s, %s, %s, now())",
        (organization, worker_id, app, kind, snapshot),
    )
    return snapshot


async def test_snapshots_come_page_by_page(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    owner = tenant.organization.id
    async with await tenant.connect() as db:
        people = [
            await workers.create(at_home(db), owner, name, None, now_us()) for name in ("B", "A")
        ]
        made = {
            (worker.id, kind): await stored(tenant, db, worker.id, kind)
            for worker in people
            for kind in ("calls", "tickets")
        }
        history = await in_pages(
            lambda a, n: snapshots.history(db, owner, None, n, a), lambda s: s.id, 3
        )
        assert [one.id for one in history] == sorted(made.values(), reverse=True)
        cards = await in_pages(
            lambda a, n: snapshots.cards_page(db, owner, None, n, a), snapshots.CardKey.of, 3
        )
        assert [(card.worker_id, card.snapshot_type) for card in cards] == sorted(made)
        assert all(card.is_card for card in cards)
        mine = await in_pages(
            lambda a, n: snapshots.cards_page(db, owner, people[0].id, n, a),
            snapshots.CardKey.of,
            1,
        )
        assert [card.snapshot_type for card in mine] == ["calls", "tickets"]


async def test_rejections_and_the_audit_log_come_page_by_page(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    log = RejectionLog(ManualTime().clock)
    for number in range(5):
        caller = structs.replace(CALLER, organization_id=tenant.organization.id)
        broken = IngestError(ErrorCode.INVALID_BODY, "body: is not JSON")
        log.note_request(caller, f"req_{number}", broken)
    wanted = rejections.Selection(tenant.organization.id)
    async with await tenant.connect() as db, await connect(database_url) as home:
        await log.flush(db)
        found = await in_pages(
            lambda b, n: rejections.newest(db, wanted, n, before=b), lambda one: one.id
        )
        assert found == await rejections.newest(db, wanted, 9)
        assert len(found) == 5
        entries = await in_pages(
            lambda b, n: audit.newest(home, audit.Selection(), n, before=b), lambda e: e.number
        )
        assert entries == await audit.newest(home, audit.Selection(), 99)
        assert len(entries) >= 3


async def test_organizations_come_by_name_from_the_cells_that_answer(database_url: str) -> None:
    north = await add_cell(database_url, "north")
    tenants = [await make_tenant_in(north, database_url) for _ in range(2)]
    tenants += [await make_tenant(database_url, cell_name="home") for _ in range(3)]
    async with await connect(database_url) as home, CellSessions(home, database_url, 10) as cells:
        names: list[str] = []
        after = None
        while True:
            page = await organizations.page(cells, 2, after)
            names += [organization.name for _, organization in page.items]
            if (after := page.after) is None:
                break
        assert sorted(names) == sorted(one.organization.name for one in tenants)
        assert cells.left_out == {}

    await enter_cell(CellRecord("dead", "postgresql://127.0.0.1:1/nothing", "dead"), database_url)
    async with await connect(database_url) as home, CellSessions(home, database_url, 10) as cells:
        assert len((await organizations.page(cells, 9)).items) == 5  # it has none
        assert cells.left_out == {}
        await home.execute(
            "INSERT INTO directory_organizations VALUES (%s, %s, %s)",
            (ids.new(now_us()), "Away", "dead"),
        )
        assert len((await organizations.page(cells, 9)).items) == 5
        assert list(cells.left_out) == ["dead"]
