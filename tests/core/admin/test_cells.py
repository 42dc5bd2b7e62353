"""Cells as operators add, list and close them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import psycopg
import pytest
from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo

from core.admin import cells, organizations
from core.admin.cell_sessions import CellSessions
from core.admin.errors import (
    AdministrationError,
    AlreadyExistsError,
    InvalidValueError,
    NotFoundError,
)
from core.postgres import directory
from core.postgres.directory import CellRecord
from tests.support.database import connect
from tests.support.tenant import now_us

pytestmark = pytest.mark.anyio


@pytest.fixture
async def home(database_url: str) -> AsyncIterator[AsyncConnection]:
    """A session of the home database."""
    async with await connect(database_url) as db:
        yield db


def record(name: str) -> CellRecord:
    """A cell of the home database that can be added."""
    return cells.new_record(name, None, is_citus=False)


@pytest.mark.parametrize("name", ["", "North", "pg_x", "1st", "a-b", "x" * 31, "a\n"])
def test_a_name_that_is_no_schema_s_is_refused(name: str) -> None:
    with pytest.raises(InvalidValueError, match="schema"):
        record(name)


def test_what_is_no_url_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="--database-url is none"):
        cells.new_record("north", "no url at all", is_citus=False)


async def test_a_cell_is_added_listed_closed_and_opened(
    home: AsyncConnection, database_url: str
) -> None:
    await cells.add(home, database_url, record("north"), now_us())
    listed = await cells.list_all(home)
    assert [(cell.record.name, cell.database) for cell in listed] == [
        ("home", "home"),
        ("north", "home"),
    ]
    closed = await cells.set_closed(home, "north", now_us(), is_closed=True)
    assert closed.record.is_closed
    opened = await cells.set_closed(home, "north", now_us(), is_closed=False)
    assert not opened.record.is_closed
    with pytest.raises(NotFoundError, match="did you mean 'north'"):
        await cells.set_closed(home, "nort", now_us(), is_closed=True)
    with pytest.raises(AlreadyExistsError):
        await cells.add(home, database_url, record("north"), now_us())
    with pytest.raises(AlreadyExistsError):
        await cells.add(home, database_url, record("home"), now_us())


async def test_an_interrupted_addition_is_finished_by_the_same_command(
    home: AsyncConnection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:

        async def crash(*_: object) -> bool:
            raise psycopg.OperationalError("gone")

        patched.setattr(directory, "add_cell", crash)
        with pytest.raises(psycopg.OperationalError):
            await cells.add(home, database_url, record("north"), now_us())
    assert await directory.find_cell(home, "north") is None
    await cells.add(home, database_url, record("north"), now_us())
    assert await directory.find_cell(home, "north") is not None


async def test_a_schema_of_something_else_is_left_alone(
    home: AsyncConnection, database_url: str
) -> None:
    await home.execute("CREATE SCHEMA theirs")
    await home.execute("CREATE TABLE theirs.things ()")
    for name in ("theirs", "public"):  # the latter is the home cell's
        with pytest.raises(AdministrationError, match="tables of something else"):
            await cells.add(home, database_url, record(name), now_us())
    row = await (
        await home.execute("SELECT count(*) FROM pg_tables WHERE schemaname='theirs'")
    ).fetchone()
    assert row == (1,)


async def test_a_cell_of_another_service_is_not_taken(
    home: AsyncConnection, database_url: str
) -> None:
    await cells.add(home, database_url, record("north"), now_us())
    async with CellSessions(home, database_url, 10) as sessions:
        await organizations.create_anywhere(sessions, "Acme", now_us(), "north")
    # As another home database sees it.
    await home.execute("DELETE FROM directory_organizations WHERE cell = 'north'")
    await home.execute("DELETE FROM cells WHERE name = 'north'")
    with pytest.raises(AdministrationError, match="organizations of another service"):
        await cells.add(home, database_url, record("north"), now_us())
    assert await directory.find_cell(home, "north") is None


async def test_an_empty_cell_of_another_service_is_not_taken(
    home: AsyncConnection, database_url: str
) -> None:
    """Such as a production's, by the commands of a staging environment."""
    await cells.add(home, database_url, record("north"), now_us())
    # As another home database sees it.
    await home.execute("DELETE FROM cells WHERE name = 'north'")
    await home.execute("UPDATE deployment SET key_secret = sha256(key_secret)")
    with pytest.raises(AdministrationError, match="a cell of another service"):
        await cells.add(home, database_url, record("north"), now_us())
    assert await directory.find_cell(home, "north") is None


def test_a_password_is_not_shown() -> None:
    url = "postgresql://ingest:secret@db2.internal:5433/events"
    shown = cells.CellDetails(cells.new_record("north", url, is_citus=False), 0).database
    assert shown == "db2.internal:5433/events"


@pytest.mark.parametrize("where", ["role", "search_path"])
async def test_a_cell_does_not_hide_the_tables_of_home(
    home: AsyncConnection, database_url: str, where: str
) -> None:
    """The search path of a session begins with the schema of its role, which may not exist yet."""
    row = await (await home.execute("SELECT current_user")).fetchone()
    assert row is not None
    name = str(row[0])
    if where == "search_path":
        name = "later"
        database_url = make_conninfo(database_url, options="-c search_path=later,public")
    with pytest.raises(AdministrationError, match="choose another name"):
        await cells.add(home, database_url, record(name), now_us())
    assert await directory.find_cell(home, name) is None
    rows = await home.execute("SELECT FROM pg_namespace WHERE nspname = %s", (name,))
    assert await rows.fetchone() is None


async def test_no_more_cells_are_added_than_a_process_opens(
    home: AsyncConnection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New organizations would go to one that nobody serves."""
    monkeypatch.setattr(cells, "MAX_CELLS", len(await directory.list_cells(home)) + 1)
    await cells.add(home, database_url, record("north"), now_us())
    with pytest.raises(AdministrationError, match="may be no more"):
        await cells.add(home, database_url, record("south"), now_us())
    assert await directory.find_cell(home, "south") is None


def test_a_password_is_not_shown_in_what_is_no_url() -> None:
    for url in ("postgres//ingest:secret@db2/events", "postgresql://ingest:secret@[db2/events"):
        with pytest.raises(InvalidValueError) as raised:
            cells.new_record("north", url, is_citus=False)
        assert "secret" not in str(raised.value)
