"""Cells: opened when they are asked for, alive or not, and looked at."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest

import core.cells
import core.postgres.node
from core.access.authentication import Authenticator
from core.access.invalidation import Invalidation
from core.access.key_secrets import key_secrets
from core.access.shared_budget import SharedBudget
from core.cells import Cell, Cells
from core.clock import Clock
from core.counters import Counters
from core.errors import IngestError
from core.journal.journal import Journal
from core.journal.rejections import Rejections
from core.journal.traffic import Traffic
from core.journal.workers import WorkerCache
from core.postgres.database import Database
from core.postgres.directory import CellRecord
from core.postgres.directory import add_cell as enter_cell
from core.timestamps import to_datetime
from tests.support.cells import add_cell, make_tenant_in
from tests.support.database import connect
from tests.support.postgres_proxy import PostgresProxy
from tests.support.tenant import make_tenant, now_us
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

AWAY = "host=127.0.0.1 port=1 connect_timeout=1"  # nobody listens there


class Opened:
    """Cells of a home database; notes which were opened and closed."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.counters, self.clock = Counters(), Clock()
        self.opened: list[str] = []
        self.closed: list[str] = []
        self.cells = Cells(database, self._open, self.clock, self.counters)

    @contextlib.asynccontextmanager
    async def _open(
        self, name: str, database: Database, openings: SharedBudget
    ) -> AsyncIterator[Cell]:
        self.opened.append(name)
        journal = Journal(database, self.clock, self.counters, WorkerCache())
        yield Cell(name, database, openings, journal, Rejections(self.clock), Traffic(self.clock))
        self.closed.append(name)

    async def authenticator(self) -> Authenticator:
        async with self.database.connection() as db:
            secret = await key_secrets(db, None)
        changes = Invalidation(self.database, self.clock)  # never run: nothing is heard
        return Authenticator(self.database, self.cells.database_of, changes, self.clock, secret)

    def away(self, name: str) -> float | None:
        return self.counters.registry.get_sample_value("wepeople_cell_away", {"cell": name})


@contextlib.asynccontextmanager
async def opened_cells(home_url: str) -> AsyncIterator[Opened]:
    async with Database(home_url) as database:
        opened = Opened(database)
        async with opened.cells:
            yield opened
    assert sorted(opened.closed) == sorted(opened.opened)


@contextlib.asynccontextmanager
async def running(cells: Cells) -> AsyncIterator[None]:
    task = asyncio.create_task(cells.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def enter(home_url: str, cell: CellRecord) -> None:
    """Enter a cell in the directory, whether or not it exists."""
    async with await connect(home_url) as db:
        assert await enter_cell(db, cell, to_datetime(now_us()))


@pytest.fixture
def way(database_url: str) -> Iterator[PostgresProxy]:
    """The way to the database that can be lost; the home cell goes another one."""
    with PostgresProxy(database_url) as proxy:
        yield proxy


async def test_the_home_cell_is_open_at_once_and_another_when_it_is_asked_for(
    database_url: str,
) -> None:
    cell = await add_cell(database_url, "west")
    tenant = await make_tenant_in(cell, database_url)
    async with opened_cells(database_url) as opened:
        assert opened.opened == [opened.cells.home.name] == ["home"]
        same = await asyncio.gather(*(opened.cells.database_of("west") for _ in range(5)))
        assert len(set(map(id, same))) == 1
        assert opened.opened == ["home", "west"]
        async with same[0].connection() as db:
            rows = await (await db.execute("SELECT id FROM organizations")).fetchall()
        assert rows == [(tenant.organization.id,)]


async def test_every_cell_of_the_directory_is_opened_though_one_is_away(
    database_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """They have maintenance to do."""
    monkeypatch.setattr(core.cells, "LIST_SECONDS", 0.05)
    await enter(database_url, CellRecord("nowhere", AWAY, "nowhere"))
    await enter(database_url, CellRecord("mistyped", "postgres//ingest:secret@db2", "mistyped"))
    await add_cell(database_url, "west")
    async with opened_cells(database_url) as opened, running(opened.cells):
        await eventually(lambda: len(opened.opened) == 3, "all are open")
        assert "cell mistyped was not opened" in caplog.text
        assert "secret" not in caplog.text
        await add_cell(database_url, "east")
        await eventually(lambda: "east" in opened.opened, "a new one is opened")


async def test_a_caller_has_the_rights_that_its_cell_tells(database_url: str) -> None:
    home = await make_tenant(database_url)
    west = await make_tenant_in(await add_cell(database_url, "west"), database_url)
    async with opened_cells(database_url) as opened:
        authenticator = await opened.authenticator()
        callers = [
            await authenticator.authenticate(f"Bearer {tenant.key}") for tenant in (home, west)
        ]
        assert [caller.cell for caller in callers] == ["home", "west"]
        assert [caller.organization_id for caller in callers] == [
            tenant.organization.id for tenant in (home, west)
        ]
        assert [opened.cells.of(caller).name for caller in callers] == ["home", "west"]
        # The directory has no say in the rights.
        await west.rows("DELETE FROM api_keys")
        fresh = await opened.authenticator()
        with pytest.raises(IngestError) as raised:
            await fresh.authenticate(f"Bearer {west.key}")
        assert raised.value.code == "invalid_key"


async def test_keys_of_a_cell_that_hangs_delay_no_others(
    database_url: str, way: PostgresProxy
) -> None:
    home = await make_tenant(database_url)
    west = await make_tenant_in(await add_cell(database_url, "west", way.conninfo), database_url)
    async with opened_cells(database_url) as opened:
        authenticator = await opened.authenticator()
        await authenticator.authenticate(f"Bearer {west.key}")
        authenticator = await opened.authenticator()
        way.freeze()
        hanging = asyncio.create_task(authenticator.authenticate(f"Bearer {west.key}"))
        await eventually(lambda: way.is_holding, "it is on its way")
        caller = await authenticator.authenticate(f"Bearer {home.key}")
        assert caller.organization_id == home.organization.id
        assert not hanging.done()
        with pytest.raises(IngestError) as raised:
            await hanging
        assert (raised.value.code, raised.value.transient) == ("internal_error", True)
        way.unfreeze()


async def test_a_cell_that_is_away_refuses_at_once_until_it_is_back(
    database_url: str, way: PostgresProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core.cells, "LOOK_SECONDS", 0.05)
    west = await make_tenant_in(await add_cell(database_url, "west", way.conninfo), database_url)
    async with opened_cells(database_url) as opened, running(opened.cells):
        caller = await (await opened.authenticator()).authenticate(f"Bearer {west.key}")
        cell = opened.cells.of(caller)
        await eventually(lambda: opened.away("west") == 0, "it is looked at")
        cell.check()
        way.go_away()
        await eventually(lambda: cell.problem is not None, "it is away")
        with pytest.raises(IngestError) as raised:
            cell.check()
        assert (raised.value.code, raised.value.transient) == ("internal_error", True)
        with pytest.raises(IngestError):
            await opened.cells.database_of("west")
        assert opened.away("west") == 1
        way.come_back()
        await eventually(lambda: cell.problem is None, "it is back")
        cell.check()
        assert opened.away("west") == 0
        assert opened.away("home") is None


async def test_a_cell_that_is_not_migrated_takes_nothing(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core.cells, "LOOK_SECONDS", 0.05)
    await enter(database_url, CellRecord("empty", None, "empty"))
    async with opened_cells(database_url) as opened, running(opened.cells):
        await opened.cells.database_of("empty")
        await eventually(lambda: opened.away("empty") == 1, "it is looked at")
        with pytest.raises(IngestError):
            await opened.cells.database_of("empty")


async def test_a_cell_that_is_in_no_directory_is_an_internal_error(database_url: str) -> None:
    async with opened_cells(database_url) as opened:
        with pytest.raises(IngestError) as raised:
            await opened.cells.database_of("nowhere")
        assert (raised.value.code, raised.value.transient) == ("internal_error", False)


async def test_no_more_cells_are_opened_than_a_process_may_work_in(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core.cells, "MAX_CELLS", 2)
    for name in ("west", "east"):
        await add_cell(database_url, name)
    async with opened_cells(database_url) as opened:
        await opened.cells.database_of("west")
        with pytest.raises(IngestError) as raised:
            await opened.cells.database_of("east")
        assert raised.value.transient


async def test_the_looks_at_many_cells_of_a_node_leave_room_in_its_pool(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core.postgres.node, "MAX_POOL_WAITERS", 16)
    monkeypatch.setattr(core.cells, "LOOK_SECONDS", 4.0)  # so that a busy machine keeps up
    west = await add_cell(database_url, "west")
    for number in range(40):
        await enter(database_url, west._replace(name=f"west{number}"))
    async with opened_cells(database_url) as opened, running(opened.cells):
        names = [f"west{number}" for number in range(40)]

        def all_are_looked_at() -> bool:
            away = [opened.away(name) for name in names]
            assert 1 not in away
            return None not in away

        await eventually(all_are_looked_at, "all are looked at, and none is away")
