"""Migrations: applied in order, once, and never changed."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from core.postgres.errors import DatabaseUnusableError
from core.postgres.migrate import available, is_migrated, migrate
from tests.support.database import connect

pytestmark = pytest.mark.anyio


async def test_a_newer_database_is_ready_for_an_older_release_which_leaves_it_as_it_is(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with await connect(database_url) as db:
        assert await is_migrated(db)
        await db.execute("INSERT INTO schema_migrations VALUES (9999, '9999_later.sql', '')")
        assert await is_migrated(db)
        assert await migrate(database_url) == []
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
            assert sorted(map(len, applied))[:3] == [0, 0, 0]
            assert max(applied, key=len)[0].name == "0001_initial.sql"
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


async def test_migrations_are_numbered_without_gaps() -> None:
    assert [migration.version for migration in available()] == [
        *range(1, len(available()) + 1),
    ]
