"""The cells of a node: each finds its own tables, in sessions that all of them share."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from core.errors import IngestError
from core.postgres import search_path
from core.postgres.database import Database
from core.postgres.node import MAX_BACKGROUND_CONNECTIONS
from core.postgres.pipeline import BEGIN, COMMIT, Command, Statement, send

pytestmark = pytest.mark.anyio

SCHEMAS = (None, "north", "south")
WHERE = Statement("where_am_i", "text", "SELECT name || $1 FROM here")


@pytest.fixture
def here(database_url: str) -> str:
    """A database with a table of one name in three schemas; yields its connection string."""
    with psycopg.connect(database_url, autocommit=True) as db:
        for schema in ("own", "north", "south"):
            db.execute(f"CREATE SCHEMA {schema}".encode())
            db.execute(f"CREATE TABLE {schema}.here AS SELECT '{schema}' AS name".encode())
    return f"{database_url} options='-c search_path=own,public'"


async def place(database: Database) -> str:
    async with database.connection() as db:
        row = await (await db.execute("SELECT name FROM here WHERE name <> %s", ("",))).fetchone()
        assert row is not None
        return str(row[0])


async def journal_place(database: Database) -> str:
    where = Command(WHERE, "")
    async with database.journal_connection(20) as db:
        await send(db, [Command(BEGIN), where, Command(COMMIT)])
    return str(where.rows[0][0])


async def test_every_cell_finds_its_tables_whoever_had_the_session_before(here: str) -> None:
    async with Database(here, max_connections=2) as database:
        cells = {schema or "own": database.in_schema(schema) for schema in SCHEMAS}
        for _ in range(8):  # so often that statements are prepared
            for name, cell in cells.items():
                assert await place(cell) == await journal_place(cell) == name
        found = await asyncio.gather(
            *(find(cell) for _ in range(20) for cell in cells.values() for find in (place,))
        )
        assert found == 20 * list(cells)
        assert database._node.pool.get_stats()["pool_size"] <= 2


async def test_a_dedicated_session_is_the_cell_s(here: str) -> None:
    async with await Database(here).in_schema("north").dedicated("wepeople-ingest test") as db:
        row = await (await db.execute("SELECT name FROM here")).fetchone()
        assert row == ("north",)


async def test_one_cell_alone_turns_no_session(database_url: str) -> None:
    async with Database(database_url) as database:
        async with database.connection() as db, database.journal_connection(20) as other:
            assert not {db, other} & set(search_path._turned)


async def test_a_lender_that_is_cancelled_while_turning_mixes_up_no_cells(here: str) -> None:
    async with Database(here, max_connections=2) as database:
        cells = {schema or "own": database.in_schema(schema) for schema in SCHEMAS}
        for steps in range(30):
            tasks = [asyncio.create_task(place(cell)) for cell in cells.values()]
            for _ in range(steps):
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for name, cell in cells.items():
                assert await place(cell) == name


async def test_maintenance_that_waits_for_a_lock_leaves_the_others_connections(here: str) -> None:
    async def read(cell: Database) -> None:
        async with cell.background_connection() as db:
            await db.execute("SELECT FROM here")

    async with Database(here, max_connections=MAX_BACKGROUND_CONNECTIONS + 1) as database:
        north, south = database.in_schema("north"), database.in_schema("south")
        with psycopg.connect(here) as other:
            other.execute("LOCK TABLE north.here")
            waiting = [asyncio.create_task(read(north)) for _ in range(20)]
            for _ in range(20):
                assert await asyncio.wait_for(place(south), 2) == "south"
            assert not any(task.done() for task in waiting)
        await asyncio.gather(*waiting)


async def test_a_schema_that_is_not_there_has_no_tables(here: str) -> None:
    async with Database(here) as database:
        with pytest.raises(psycopg.errors.UndefinedTable):
            await place(database.in_schema("west"))
        assert await place(database) == "own"
        with pytest.raises(IngestError):
            await place(Database("host=127.0.0.1 port=1").in_schema("north"))
