"""Removing an organization: everything that is its own, and nothing of anybody else."""

from __future__ import annotations

import asyncio

import pytest
from psycopg import sql

from core import ids
from core.admin import audit, removal
from core.admin.cell_sessions import at_home
from core.admin.errors import NotFoundError
from core.admin.removal import Removal
from core.errors import IngestError
from tests.support.cells import add_cell
from tests.support.direct_writer import DirectWriter
from tests.support.tenant import Tenant, make_tenant, now_us, until_somebody_waits_for

pytestmark = pytest.mark.anyio

MONTH_US = 31 * 86_400 * 1_000_000
EVENTS = 7


async def tables(tenant: Tenant) -> list[str]:
    """Every table with rows of organizations, but the audit log, which outlives them."""
    rows = await tenant.rows(
        "SELECT table_name::text AS name FROM information_schema.columns "
        "JOIN information_schema.tables USING (table_schema, table_name) "
        "WHERE column_name = 'organization_id' AND table_type = 'BASE TABLE' "
        "AND table_schema = 'public' AND table_name <> 'audit'"
    )
    return [row["name"] for row in rows]


async def left(tenant: Tenant) -> dict[str, int]:
    """How many rows of the organization each table has; those with none are left out."""
    found = {}
    async with await tenant.connect() as db:
        for name, column in [
            *((name, "organization_id") for name in await tables(tenant)),
            ("organizations", "id"),
        ]:
            query = sql.SQL("SELECT count(*) FROM {} WHERE {} = %s").format(
                sql.Identifier(name), sql.Identifier(column)
            )
            row = await (await db.execute(query, (tenant.organization.id,))).fetchone()
            assert row is not None
            if row[0]:
                found[name] = row[0]
    return found


async def furnish(tenant: Tenant) -> None:
    """Rows in every table: events in two months, a worker with a link, and so on."""
    organization, app = tenant.organization.id, tenant.app.id
    worker = ids.new(now_us())
    for number in range(EVENTS):
        received_us = now_us() + MONTH_US * (number % 2)
        await tenant.rows(
            "INSERT INTO events VALUES (%s, %s, %s, %s, 'ticket.resolved', 'code', now())",
            *(organization, app, ids.new(received_us), worker),
        )
    for statement in (
        "INSERT INTO workers VALUES (%(o)s, %(w)s, 'Alex', NULL, NULL, now())",
        "INSERT INTO worker_links VALUES (%(o)s, %(a)s, 'crm-user-1', %(w)s)",
        "INSERT INTO producers VALUES (%(o)s, %(a)s, 'p', 1, 1, 0, 1, now())",
        "INSERT INTO producer_counts VALUES (%(o)s, %(a)s, 1)",
        "INSERT INTO quota_usage VALUES (%(o)s, '2026-04-01', 7, 7)",
        "INSERT INTO refusals VALUES (%(o)s, '2026-04-01', 'invalid_body', 1, 1)",
        "INSERT INTO rejections VALUES (%(o)s, %(w)s, 'r', NULL, 'c', NULL, 'm', 's', 'h', NULL)",
        "INSERT INTO traffic VALUES (%(o)s, now(), %(a)s, 1, 1, 1, 1, 1)",
        "INSERT INTO key_uses VALUES (%(o)s, %(w)s, now())",
        "INSERT INTO idempotency_keys VALUES (%(o)s, %(a)s, 'events', 'k', '', '{}', now())",
        "INSERT INTO snapshot_history VALUES (%(o)s, %(w)s, %(a)s, %(w)s, 'card', now(), '{}')",
        "INSERT INTO snapshot_cards VALUES (%(o)s, %(w)s, %(a)s, 'card', %(w)s, now())",
    ):
        async with await tenant.connect() as db:
            await db.execute(statement.encode(), {"o": organization, "a": app, "w": worker})


async def test_removes_all_of_one_organization_and_nothing_of_another(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(removal, "MAX_REMOVED_AT_ONCE", 2)
    going, staying = await make_tenant(database_url), await make_tenant(database_url)
    for tenant in (going, staying):
        await furnish(tenant)
    before = await left(staying)
    # A table that is new one day has to be thought of.
    partitions = {name for name in await tables(going) if name.startswith("events_")}
    assert set(await tables(going)) - partitions == set(before) - {"organizations"} - partitions
    assert len(partitions & set(before)) == 2

    async with await going.connect() as db:
        done = await removal.remove_organization(at_home(db), going.organization.id)
        assert done == Removal(EVENTS, is_finished=True)

    assert await left(going) == {}
    assert await left(staying) == before
    async with await going.connect() as db:
        with pytest.raises(NotFoundError):
            await removal.remove_organization(at_home(db), going.organization.id)


async def test_what_was_let_in_before_is_not_stored_after(
    quota_of_five: DirectWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "QUIET_SECONDS", 0.0)
    late = [quota_of_five.request(2), quota_of_five.request(1, key="late")]
    async with await quota_of_five.tenant.connect() as db:
        await removal.remove_organization(at_home(db), quota_of_five.tenant.organization.id)
    for outcome in await quota_of_five.write(*late):
        assert isinstance(outcome, IngestError)
        assert outcome.code == "quota_exceeded"
    assert await left(quota_of_five.tenant) == {}


async def test_nothing_is_stored_while_an_organization_goes(
    quota_of_five: DirectWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "QUIET_SECONDS", 0.0)
    await quota_of_five.write(quota_of_five.request(1))
    late = quota_of_five.request(2)
    async with (
        await quota_of_five.tenant.connect() as db,
        await quota_of_five.tenant.connect() as other,
    ):
        await other.execute("BEGIN")
        await other.execute("SELECT FROM apps FOR UPDATE")  # removed late, after the events
        removing = asyncio.create_task(
            removal.remove_organization(at_home(db), quota_of_five.tenant.organization.id)
        )
        await until_somebody_waits_for(other, quota_of_five.tenant)
        writing = asyncio.create_task(quota_of_five.write(late))
        await asyncio.sleep(0.1)
        await other.execute("COMMIT")
        await removing
    [outcome] = await writing
    assert isinstance(outcome, IngestError)
    assert await left(quota_of_five.tenant) == {}


@pytest.mark.parametrize("cell_name", ["home", "north"])
async def test_an_app_goes_with_its_rows_and_no_others(
    database_url: str, monkeypatch: pytest.MonkeyPatch, cell_name: str
) -> None:
    monkeypatch.setattr(removal, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(removal, "MAX_REMOVED_AT_ONCE", 2)
    await add_cell(database_url, "north")
    going = await make_tenant(database_url, cell_name)
    staying = await going.another_app()
    key_place = "SELECT FROM directory_keys WHERE organization_id = %s"
    for tenant in (going, staying):
        await tenant.rows(
            "INSERT INTO producers VALUES (%s, %s, 'p', 1, 1, 0, 1, now())",
            *(tenant.organization.id, tenant.app.id),
        )
        await tenant.rows(
            "INSERT INTO traffic VALUES (%s, now(), %s, 1, 1, 1, 1, 1)",
            *(tenant.organization.id, tenant.app.id),
        )
        await tenant.rows(
            "INSERT INTO key_uses VALUES (%s, %s, now())",
            *(tenant.organization.id, tenant.api_key.id),
        )
        for _ in range(EVENTS):
            await tenant.rows(
                "INSERT INTO events VALUES (%s, %s, %s, %s, 'deal.won', 'code', now())",
                *(tenant.organization.id, tenant.app.id, ids.new(now_us()), tenant.app.id),
            )
    async with going.in_cell() as cell:
        owner = going.organization.id
        extent = await removal.extent(cell.db, owner, now_us(), going.app.id)
        assert (extent.apps, extent.working_keys, extent.producers) == (1, 1, 1)
        assert extent.events == EVENTS
        assert (await removal.remove_app(cell, going.app, now_us())).events == EVENTS
        rest = await removal.extent(cell.db, owner, now_us())
        assert (rest.apps, rest.keys, rest.producers, rest.events) == (1, 1, 1, EVENTS)
        assert await staying.rows("SELECT app_id FROM traffic") == [{"app_id": staying.app.id}]
        left_keys = await staying.rows("SELECT key_id FROM key_uses")
        assert left_keys == [{"key_id": staying.api_key.id}]
        known = await (await cell.home.execute(key_place, (owner,))).fetchall()
        assert len(known) == 1


async def test_a_removal_that_runs_out_of_time_is_finished_by_another(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "QUIET_SECONDS", 0.0)
    going = await make_tenant(database_url)
    other = await going.another_app()
    await furnish(going)
    owner = going.organization.id
    async with going.in_cell() as cell:
        unfinished = await removal.remove_app(cell, other.app, now_us(), -1.0)
        assert unfinished == Removal(0, is_finished=False)
        assert (await removal.remove_app(cell, other.app, now_us(), 60.0)).is_finished
        unfinished = await removal.remove_organization(cell, owner, -1.0)
        assert unfinished == Removal(0, is_finished=False)
        assert (await left(going))["events"] > 0
        entry, *_ = await audit.newest(cell.home, audit.Selection(owner), 1)
        assert (entry.action, entry.is_done) == ("org.remove", True)
        assert entry.after == {"name": going.organization.name}  # which is still there
        done = await removal.remove_organization(cell, owner, 60.0)
        assert done == Removal(EVENTS, is_finished=True)
    assert await left(going) == {}
