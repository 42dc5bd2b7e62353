"""The audit log: one entry for each change that is made, in whatever cell, and none otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest
from psycopg import AsyncConnection

from core import ids
from core.admin import audit, cells, organizations, removal
from core.admin.audit import AuditEntry, Follower, Selection
from core.admin.cell_sessions import CellSession, CellSessions
from core.admin.errors import AlreadyExistsError, NotFoundError
from core.postgres import directory
from core.postgres.audit import Actor, Change, record
from tests.support.database import connect
from tests.support.tenant import now_us

pytestmark = pytest.mark.anyio

ALEX = Actor("command line", "alex")


@pytest.fixture
async def home(database_url: str) -> AsyncIterator[AsyncConnection]:
    """A session of the home database."""
    async with await connect(database_url) as db:
        yield db


@pytest.fixture(params=[directory.HOME, "north"])
async def cell(
    request: pytest.FixtureRequest, home: AsyncConnection, database_url: str
) -> AsyncIterator[CellSession]:
    """Each kind of cell in turn."""
    await cells.add(home, database_url, cells.new_record("north", None, is_citus=False), now_us())
    await home.execute("DELETE FROM audit")
    async with CellSessions(home, database_url, 10, ALEX) as sessions:
        yield await sessions.named(request.param)


async def entries(home: AsyncConnection) -> list[AuditEntry]:
    return (await audit.newest(home, Selection(), 100))[::-1]


async def test_a_change_has_one_entry_and_what_is_refused_has_none(
    cell: CellSession, home: AsyncConnection
) -> None:
    made = await organizations.create(cell, "Acme", now_us(), monthly_quota=5)
    with pytest.raises(AlreadyExistsError):
        await organizations.create(cell, "Acme", now_us())
    await organizations.update(cell, made.id, name="Zenith")
    await organizations.update(cell, made.id, name="Zenith")  # as it is
    with pytest.raises(NotFoundError):
        await organizations.update(cell, ids.new(now_us()), monthly_quota=7)
    created, updated = await entries(home)
    assert (created.action, created.before, created.is_done) == ("org.create", None, True)
    assert (created.hand, created.actor) == ALEX
    assert created.subject == ids.text(ids.ORGANIZATION, made.id)
    assert (updated.action, updated.is_done) == ("org.update", True)
    assert updated.before is not None
    assert updated.after == {**updated.before, "name": "Zenith"}
    assert (created.organization_name, updated.organization_id) == ("Acme", made.id)


async def lose_connection(cell: CellSession, change: Change) -> None:
    async with cell.changing(change):
        await cell.db.close()
        raise psycopg.OperationalError("gone")


@pytest.mark.parametrize("cell", ["north"], indirect=True)
async def test_a_change_whose_end_nobody_knows_has_an_entry(
    cell: CellSession, home: AsyncConnection
) -> None:
    made = await organizations.create(cell, "Acme", now_us())
    change = Change("org.update", made.id, "it")
    with pytest.raises(psycopg.OperationalError):
        await lose_connection(cell, change)
    assert [one.is_done for one in await entries(home)] == [True, False]


async def test_an_organization_that_is_gone_is_found_by_its_name_and_its_id(
    cell: CellSession, home: AsyncConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "QUIET_SECONDS", 0.0)
    made = await organizations.create(cell, "Acme", now_us())
    await removal.remove_organization(cell, made.id)
    for given in ("Acme", ids.text(ids.ORGANIZATION, made.id)):
        found = await audit.newest(home, await audit.select(home, given), 10)
        assert {one.action for one in found} == {"org.create", "org.remove"}
        assert all(one.is_done for one in found)
    with pytest.raises(NotFoundError):
        await audit.select(home, "Zenith")


async def test_followers_miss_no_entry_of_a_transaction_that_ends_late(
    home: AsyncConnection, database_url: str
) -> None:
    follower = Follower(Selection())
    async with await connect(database_url) as late:
        await record(home, ALEX, Change("before", None, "1"))
        assert [one.action for one in await follower.start(home, 10)] == ["before"]
        async with late.transaction():
            await record(late, ALEX, Change("late", None, "2"))
            await record(home, ALEX, Change("early", None, "3"))
            assert [one.action for one in await follower.news(home)] == ["early"]
        assert [one.action for one in await follower.news(home)] == ["late"]
    assert await follower.news(home) == []


async def test_changes_of_two_at_once_are_told_as_they_followed(
    cell: CellSession, home: AsyncConnection, database_url: str
) -> None:
    made = await organizations.create(cell, "Acme", now_us(), monthly_quota=0)
    async with (
        await connect(database_url) as other_home,
        CellSessions(other_home, database_url, 10, ALEX) as others,
    ):
        other = await others.named(cell.record.name)
        await asyncio.gather(
            *(
                organizations.update(one, made.id, monthly_quota=quota)
                for one, quota in ((cell, 1), (other, 2))
            )
        )
    _, *updates = await entries(home)
    chain = {
        one.before["monthlyQuota"]: one.after["monthlyQuota"]
        for one in updates
        if one.before and one.after
    }
    assert chain in ({0: 1, 1: 2}, {0: 2, 2: 1})
