"""Migrations: applied in order, once, and never changed."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any, Final

import psycopg
import pytest
from psycopg import AsyncConnection, sql

import core.postgres.migrate
from core.postgres import directory, partitions
from core.postgres.directory import CellRecord
from core.postgres.errors import DatabaseUnusableError
from core.postgres.migrate import (
    Applied,
    Kind,
    available,
    is_cell_migrated,
    is_migrated,
    migrate,
    migrate_cell,
)
from tests.support.database import connect
from tests.support.hanging_server import hanging_server
from tests.support.ports import free_port
from tests.support.tenant import now_us

pytestmark = pytest.mark.anyio

NOW: Final = datetime(2026, 7, 1, tzinfo=UTC)
DIRECTORY: Final = ("directory_organizations", "directory_keys")
OPERATORS: Final = ("audit", "operators", "sign_ins")

# All of a table but triggers and comments, as text without the schema's name.
TABLES: Final = """
SELECT relname::text, relkind::text, reloptions, ARRAY(
    SELECT concat_ws(' ', attnum, attname, format_type(atttypid, atttypmod), attnotnull,
        pg_get_expr(adbin, adrelid))
    FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    WHERE attrelid = pg_class.oid AND attnum > 0 ORDER BY 1
), ARRAY(
    SELECT conname || ' ' || replace(pg_get_constraintdef(oid), %(schema)s || '.', '')
    FROM pg_constraint WHERE conrelid = pg_class.oid ORDER BY 1
), ARRAY(
    SELECT replace(pg_get_indexdef(indexrelid), %(schema)s || '.', '')
    FROM pg_index WHERE indrelid = pg_class.oid ORDER BY 1
), pg_get_expr(relpartbound, oid)
FROM pg_class WHERE relnamespace = (%(schema)s::text)::regnamespace AND relkind IN ('r', 'p')
"""


async def tables(db: AsyncConnection[Any], schema: str) -> dict[str, object]:
    cursor = await db.execute(TABLES, {"schema": schema})
    return {name: rest for name, *rest in await cursor.fetchall()}


async def make_cell(db: AsyncConnection[Any], cell: CellRecord) -> None:
    assert cell.schema is not None
    await db.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(cell.schema)))
    assert await directory.add_cell(db, cell, NOW)


async def test_a_newer_database_is_ready_for_an_older_release_which_leaves_it_as_it_is(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with await connect(database_url) as db:
        assert await is_migrated(db)
        await db.execute("INSERT INTO schema_migrations VALUES (9999, '9999_later.sql', '')")
        assert await is_migrated(db)
        assert not (await migrate(database_url)).applied
        assert "9999_later.sql" in caplog.text
        assert await is_migrated(db)
        await db.execute("DELETE FROM schema_migrations")
        assert not await is_migrated(db)


async def test_a_migration_that_was_changed_is_refused(database_url: str) -> None:
    async with await connect(database_url) as db:
        await db.execute("UPDATE schema_migrations SET checksum = 'other' WHERE version = 1")
    with pytest.raises(DatabaseUnusableError, match="0001_initial"):
        await migrate(database_url)


async def test_processes_that_migrate_at_once_apply_each_file_once(postgres: str) -> None:
    name = "wepeople_migrated_at_once"
    with psycopg.connect(postgres, autocommit=True) as admin:
        admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())
        admin.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'".encode())
        try:
            url = psycopg.conninfo.make_conninfo(postgres, dbname=name)
            applied = await asyncio.gather(*(migrate(url) for _ in range(4)))
            names = sorted([one.name for one in done.applied] for done in applied)
            assert names[:3] == [[], [], []]
            # The first file of a cell is in those of the home database.
            assert names[3] == [file.name for file in (*available("home"), *available("cell")[1:])]
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.mark.parametrize("kind", ["home", "cell"])
def test_migrations_are_numbered_without_gaps(kind: Kind) -> None:
    versions = [migration.version for migration in available(kind)]
    assert versions == [*range(1, len(versions) + 1)]


async def test_a_new_cell_has_the_tables_of_the_home_cell(database_url: str) -> None:
    async with await connect(database_url) as db:
        await make_cell(db, CellRecord("north", schema="north"))
        expected = [Applied(f"north: {file.name}", []) for file in available("cell")]
        assert (await migrate(database_url)).applied == expected
        home, north = [await tables(db, schema) for schema in ("public", "north")]
        of_home_alone = {"deployment", "schema_migrations", "cells", *OPERATORS, *DIRECTORY}
        assert home.keys() - north.keys() == of_home_alone
        for name in of_home_alone:
            del home[name]
        assert north == home
        assert (await migrate(database_url)).applied == []


async def test_a_cell_that_cannot_be_reached_does_not_hinder_the_others(database_url: str) -> None:
    async with await connect(database_url) as db:
        dead = CellRecord("dead", f"host=127.0.0.1 port={free_port()} dbname=x", "dead")
        await directory.add_cell(db, dead, NOW)
        await make_cell(db, CellRecord("north", schema="north"))
        changed = CellRecord("changed", schema="changed")
        await make_cell(db, changed)
        await migrate_cell(changed, database_url, now_us())
        await db.execute("UPDATE changed.cell_migrations SET checksum = 'other'")

        migrated = await migrate(database_url)
        expected = [f"north: {file.name}" for file in available("cell")]
        assert [one.name for one in migrated.applied] == expected
        assert [line.split(" is not up to date: ")[0] for line in migrated.left] == [
            "the cell changed",
            "the cell dead",
        ]
        assert "0001_cell.sql was changed" in migrated.left[0]


async def test_a_cell_that_hangs_is_given_up(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await connect(database_url) as db:
        await make_cell(db, CellRecord("north", schema="north"))
        await make_cell(db, CellRecord("south", schema="south"))
        await migrate(database_url)
        monkeypatch.setattr(core.postgres.migrate, "CELL_SECONDS", 0.3)
        async with db.transaction():
            await db.execute("LOCK TABLE north.cell_migrations")
            migrated = await asyncio.wait_for(migrate(database_url), 20)
        assert [line.split(" is not up to date: ")[0] for line in migrated.left] == [
            "the cell north"
        ]
        assert (await migrate(database_url)).left == []


async def test_a_session_of_a_cell_tells_whether_it_is_migrated(database_url: str) -> None:
    north = CellRecord("north", schema="north")
    async with await connect(database_url) as db:
        await make_cell(db, north)
        async with await directory.connect_to(north, database_url) as cell:
            assert not await is_cell_migrated(cell)
            await migrate(database_url)
            assert await is_cell_migrated(cell)


async def test_a_cell_has_partitions_of_its_own(database_url: str) -> None:
    north = CellRecord("north", schema="north")
    async with await connect(database_url) as db:
        await make_cell(db, north)
        await migrate(database_url)
        async with await directory.connect_to(north, database_url) as cell:
            assert await partitions.horizon_us(cell) == await partitions.horizon_us(db)


async def test_a_server_that_hangs_is_waited_for_once_and_not_for_each_of_its_cells(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start waits for it, and others wait for the start."""
    monkeypatch.setattr(core.postgres.migrate, "MAX_CELLS_AT_ONCE", 1)
    names = ["north", "south", "west"]
    with hanging_server() as server:
        async with await connect(database_url) as db:
            for name in names:
                cell = CellRecord(name, server.conninfo, name)
                assert await directory.add_cell(db, cell, NOW)
        left = (await migrate(database_url)).left
        assert [line.split()[2] for line in left] == names
        assert server.connections() == 1
