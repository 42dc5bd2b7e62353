"""The periodic work: partitions made and dropped, old idempotency keys, migrations."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from psycopg import AsyncConnection, errors

import core.maintenance
from core import ids, limits
from core.clock import Clock
from core.journal import idempotency, stored_receipt
from core.journal.rejection_statistics import RejectionStatistics
from core.maintenance import Maintenance
from core.postgres import partitions
from core.postgres.database import Database
from core.postgres.errors import DatabaseUnusableError
from core.postgres.migrate import is_migrated, migrate
from core.postgres.pipeline import BEGIN, Command, CopyCommand, send
from core.postgres.sessions import session_conninfo
from core.timestamps import from_datetime
from tests.support.tenant import Tenant, make_tenant

pytestmark = pytest.mark.anyio

NEW_YEARS_EVE_US = from_datetime(datetime(2031, 12, 31, 23, 59, 59, tzinfo=UTC))
US_PER_SECOND = 1_000_000


async def connect(database_url: str) -> AsyncConnection[Any]:
    return await AsyncConnection.connect(session_conninfo(database_url), autocommit=True)


async def months(db: AsyncConnection[Any]) -> list[str]:
    cursor = await db.execute(
        "SELECT inhrelid::regclass::text FROM pg_inherits "
        "WHERE inhparent = 'events'::regclass ORDER BY 1"
    )
    return [row[0] for row in await cursor.fetchall()]


async def test_partitions_are_made_for_this_month_and_three_more(database_url: str) -> None:
    async with await connect(database_url) as db:
        before = await months(db)
        made = await partitions.ensure_partitions(db, NEW_YEARS_EVE_US)
        assert made == ["events_2031_12", "events_2032_01", "events_2032_02", "events_2032_03"]
        assert await months(db) == sorted([*before, *made])
        assert await partitions.ensure_partitions(db, NEW_YEARS_EVE_US) == []
        horizon = datetime(2032, 4, 1, tzinfo=UTC)
        assert await partitions.horizon_us(db) == from_datetime(horizon)


async def test_an_event_is_stored_in_the_month_of_its_receipt(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    async with await connect(database_url) as db:
        await partitions.ensure_partitions(db, NEW_YEARS_EVE_US)
        for us in (NEW_YEARS_EVE_US, NEW_YEARS_EVE_US + US_PER_SECOND):
            await db.execute(
                "INSERT INTO events (organization_id, app_id, id, worker_id, event_type, category, "
                "occurred_at) VALUES (%s, %s, %s, %s, 'a.b', 'code', now())",
                (tenant.organization.id, tenant.app.id, ids.new(us), ids.new(us)),
            )
        cursor = await db.execute("SELECT tableoid::regclass::text FROM events ORDER BY id")
        assert await cursor.fetchall() == [("events_2031_12",), ("events_2032_01",)]


async def test_retention_drops_whole_months_and_keeps_the_rest(database_url: str) -> None:
    async with await connect(database_url) as db:
        await partitions.ensure_partitions(db, NEW_YEARS_EVE_US)
        in_march = from_datetime(datetime(2032, 3, 31, 12, tzinfo=UTC))
        kept = ["events_2032_02", "events_2032_03"]
        dropped = await partitions.drop_expired(db, in_march, retention_months=1)
        assert dropped[-2:] == ["events_2031_12", "events_2032_01"]
        assert await months(db) == kept
        assert await partitions.drop_expired(db, in_march, retention_months=1) == []


async def test_retention_waits_for_a_reader_without_holding_up_writers(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    later = from_datetime(datetime(2040, 1, 1, tzinfo=UTC))
    async with await connect(database_url) as reader, await connect(database_url) as db:
        async with reader.transaction():
            await reader.execute("SELECT FROM events")
            await db.execute("SET statement_timeout = '1s'")  # less than the usual wait for a lock
            with pytest.raises(errors.LockNotAvailable):
                await partitions.drop_expired(db, later, retention_months=1)
        await db.execute("RESET statement_timeout")
        await partitions.drop_expired(db, later, retention_months=1)
        assert await months(db) == []
    assert await tenant.events() == []


async def test_old_idempotency_keys_are_deleted_but_not_one_somebody_may_still_ask_for(
    tenant: Tenant,
) -> None:
    now_us = Clock().now_us()
    window = limits.IDEMPOTENCY_WINDOW_SECONDS
    ages = {"new": 0, "late": window + 10, "old": window + idempotency.MAX_LATE_SECONDS + 1}
    async with await tenant.connect() as db:
        for key, age in ages.items():
            scope = stored_receipt.Scope(tenant.organization.id, tenant.app.id, "events", key)
            receipt = stored_receipt.StoredReceipt("req_", now_us - age * US_PER_SECOND)
            await send(
                db, [idempotency.claim_keys([(stored_receipt.Claim(scope, b"digest"), receipt)])]
            )
        await idempotency.clean(db, now_us)
        cursor = await db.execute(
            "SELECT idempotency_key FROM idempotency_keys WHERE organization_id = %s ORDER BY 1",
            (tenant.organization.id,),
        )
        assert await cursor.fetchall() == [("late",), ("new",)]


async def test_upkeep_alarms_when_months_cannot_be_made(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with await connect(database_url) as db:
        await db.execute("ALTER TABLE events RENAME TO gone")
        clock = Clock(lambda: NEW_YEARS_EVE_US)
        async with Database(database_url) as database:
            maintenance = Maintenance(database, RejectionStatistics(), clock, None)
            await maintenance._attempt(maintenance._maintain_partitions)
            assert "maintenance failed" in caplog.text
            await db.execute("ALTER TABLE gone RENAME TO events")
            caplog.clear()
            await maintenance._attempt(maintenance._maintain_partitions)
            assert caplog.text == ""


async def test_a_newer_database_is_ready_for_an_older_replica_but_not_migrated_by_it(
    database_url: str,
) -> None:
    async with await connect(database_url) as db:
        assert await is_migrated(db)
        await db.execute("INSERT INTO schema_migrations VALUES (9999, '9999_later.sql', '')")
        assert await is_migrated(db)
        with pytest.raises(DatabaseUnusableError, match="9999_later"):
            await migrate(database_url)
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
            assert max(applied)[0] == "0001_initial.sql"
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


async def test_a_copy_of_a_process_that_hangs_does_not_keep_its_locks(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core.maintenance, "MAX_COPY_SECONDS", 0.2)
    monkeypatch.setattr(core.maintenance, "HUNG_CHECK_SECONDS", 0.1)
    tenant = await make_tenant(database_url)
    async with Database(database_url) as database:
        async with database.journal_connection(60) as db:
            name = Command("SELECT current_setting('application_name')")
            await send(db, [name])
        sessions = [
            await AsyncConnection.connect(session_conninfo(database_url, its_name), autocommit=True)
            for its_name in (name.rows[0][0], "an operator's own")
        ]
        for db in sessions:
            await send(
                db,
                [
                    Command(BEGIN),
                    Command("SELECT id FROM apps"),
                    CopyCommand("COPY apps FROM STDIN"),
                ],
            )
        hung, other = (db.info.backend_pid for db in sessions)
        maintenance = asyncio.create_task(
            Maintenance(database, RejectionStatistics(), Clock(), None).run()
        )
        left: list[dict[str, Any]] = []
        for _ in range(400):
            left = await tenant.rows(
                "SELECT pid FROM pg_stat_activity WHERE pid IN (%s, %s)", hung, other
            )
            if len(left) < 2:
                break
            await asyncio.sleep(0.05)
        assert left == [{"pid": other}]
        maintenance.cancel()
        for db in sessions:
            await db.close()
