"""The health of a database: ready means that events can be written."""

from __future__ import annotations

import os

import psycopg
import pytest
from psycopg import AsyncConnection

from core.postgres import sessions
from core.postgres.health import Problem, probe, write_problem
from tests.support.tenant import now_us

pytestmark = pytest.mark.anyio

YEAR_US = 366 * 86_400 * 1_000_000


async def problem(database_url: str, at_us: int) -> str | None:
    """The problem as a new session sees it."""
    async with await sessions.connect(database_url) as db:
        return await write_problem(db, at_us)


async def test_a_migrated_database_can_be_written(database_url: str) -> None:
    assert await problem(database_url, now_us()) is None


async def test_without_a_partition_for_now_nothing_can_be_written(database_url: str) -> None:
    said = await problem(database_url, now_us() + YEAR_US)
    assert said is Problem.NO_PARTITION


async def test_a_read_only_database_cannot_be_written(database_url: str) -> None:
    async with await AsyncConnection.connect(database_url, autocommit=True) as db:
        name = db.info.dbname
        await db.execute(
            psycopg.sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(
                psycopg.sql.Identifier(name)
            )
        )
    assert await problem(database_url, now_us()) == "the database is read-only"


async def test_without_the_right_to_insert_nothing_can_be_written(database_url: str) -> None:
    async with await sessions.connect(database_url) as db:
        role = f"wepeople_reader_{os.getpid()}"
        await db.execute(f"CREATE ROLE {role}".encode())
        try:
            await db.execute(
                f"GRANT SELECT ON schema_migrations, cell_migrations TO {role}".encode()
            )
            await db.execute(f"SET ROLE {role}".encode())
            assert await write_problem(db, now_us()) == "the service may not write to the database"
        finally:
            await db.execute("RESET ROLE")
            await db.execute(f"DROP OWNED BY {role}; DROP ROLE {role}".encode())


@pytest.mark.parametrize("table", ["quota_usage", "idempotency_keys", "workers"])
async def test_without_a_right_on_any_table_of_the_journal_nothing_can_be_written(
    database_url: str, table: str
) -> None:
    async with await sessions.connect(database_url) as db:
        role = f"wepeople_writer_{os.getpid()}"
        await db.execute(f"CREATE ROLE {role}".encode())
        try:
            await db.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}".encode())
            await db.execute(f"SET ROLE {role}".encode())
            assert await write_problem(db, now_us()) is None
            await db.execute("RESET ROLE")
            await db.execute(f"REVOKE INSERT ON {table} FROM {role}".encode())
            await db.execute(f"SET ROLE {role}".encode())
            assert await write_problem(db, now_us()) is Problem.NO_RIGHT
        finally:
            await db.execute("RESET ROLE")
            await db.execute(f"DROP OWNED BY {role}; DROP ROLE {role}".encode())


async def test_a_database_of_an_older_release_cannot_be_written(database_url: str) -> None:
    async with await AsyncConnection.connect(database_url, autocommit=True) as db:
        await db.execute("DELETE FROM schema_migrations")
    assert await problem(database_url, now_us()) == "the database is not migrated"


async def test_a_probe_leaves_nothing(database_url: str) -> None:
    async with await sessions.connect(database_url) as db:
        await probe(db)
        cursor = await db.execute("SELECT FROM pg_class WHERE relname LIKE 'write_probe%'")
        assert await cursor.fetchall() == []


async def test_a_probe_says_what_hinders_a_write(database_url: str) -> None:
    async with await sessions.connect(database_url) as db:
        await db.execute("SET default_transaction_read_only = on")
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            await probe(db)
