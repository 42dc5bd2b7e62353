"""Monthly partitions: made ahead of time, and dropped when retention ends."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from psycopg import AsyncConnection, errors

from core import ids
from core.postgres import partitions
from core.timestamps import from_datetime
from tests.support.database import connect
from tests.support.tenant import make_tenant

pytestmark = pytest.mark.anyio

NEW_YEARS_EVE_US = from_datetime(datetime(2031, 12, 31, 23, 59, 59, tzinfo=UTC))
US_PER_SECOND = 1_000_000


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


async def test_planner_statistics_are_there_after_a_vacuum_and_checkpoint(
    database_url: str,
) -> None:
    async with await connect(database_url) as db:
        await partitions.vacuum_and_checkpoint(db)
        cursor = await db.execute(
            "SELECT bool_and(last_vacuum IS NOT NULL) FROM pg_stat_user_tables "
            "WHERE relname LIKE 'events\\_%'"
        )
        assert await cursor.fetchone() == (True,)


async def test_without_partitions_there_is_no_horizon(database_url: str) -> None:
    async with await connect(database_url) as db:
        for name in await months(db):
            await db.execute(f"DROP TABLE {name}".encode())
        assert await partitions.horizon_us(db) is None
