"""Maintenance: old idempotency keys, missing partitions, transactions of processes that hang."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

import core.maintenance
from core import limits
from core.clock import Clock
from core.journal import idempotency, stored_receipt
from core.journal.rejections import Rejections
from core.journal.traffic import Traffic
from core.maintenance import Maintenance
from core.postgres import partitions
from core.postgres.database import Database
from core.postgres.pipeline import BEGIN, Command, CopyCommand, send
from core.timestamps import from_datetime
from tests.support.database import connect
from tests.support.tenant import Tenant, make_tenant

pytestmark = pytest.mark.anyio

NEW_YEARS_EVE_US = from_datetime(datetime(2031, 12, 31, 23, 59, 59, tzinfo=UTC))
US_PER_SECOND = 1_000_000
MONTH_US = 31 * 86_400 * US_PER_SECOND


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


async def test_maintenance_alarms_when_months_cannot_be_made(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with await connect(database_url) as db:
        await db.execute("ALTER TABLE events RENAME TO gone")
        clock = Clock(lambda: NEW_YEARS_EVE_US)
        async with Database(database_url) as database:
            maintenance = Maintenance(database, Rejections(clock), Traffic(clock), clock, None)
            await maintenance._attempt(maintenance._maintain_partitions)
            assert "maintenance failed" in caplog.text
            await db.execute("ALTER TABLE gone RENAME TO events")
            caplog.clear()
            await maintenance._attempt(maintenance._maintain_partitions)
            assert caplog.text == ""


@pytest.mark.parametrize("months_ahead", [0, 7, -7])
async def test_a_process_whose_clock_is_wrong_drops_no_month_that_others_keep(
    database_url: str, months_ahead: int
) -> None:
    now_us = Clock().now_us()
    wrong = Clock(lambda: now_us + months_ahead * MONTH_US)
    async with await connect(database_url) as db, Database(database_url) as database:
        await partitions.ensure_partitions(db, now_us - 2 * MONTH_US)
        maintenance = Maintenance(
            database, Rejections(wrong), Traffic(wrong), wrong, retention_months=1
        )
        await maintenance._maintain_partitions(db)
        kept = set(await partitions._existing(db))
    assert {partitions.name_at(now_us), partitions.name_at(now_us + MONTH_US)} <= kept
    assert (partitions.name_at(now_us - 2 * MONTH_US) in kept) == (months_ahead < 0)


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
            await connect(database_url, its_name)
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
            Maintenance(database, Rejections(Clock()), Traffic(Clock()), Clock(), None).run()
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
