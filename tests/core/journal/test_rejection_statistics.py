"""Rejection statistics: counted in memory, added to the database, never lost by a failure."""

from __future__ import annotations

import psycopg
import pytest

import core.journal.rejection_statistics
from core.error_codes import ErrorCode
from core.journal.quota import account
from core.journal.rejection_statistics import RejectionStatistics
from core.models import Rejection
from tests.support.tenant import Tenant, make_tenant, now_us

pytestmark = pytest.mark.anyio

REJECTED = [Rejection(index, ErrorCode.INVALID_BODY, "no") for index in range(3)]


async def counts(tenant: Tenant) -> set[tuple[str, int, int]]:
    """The code, events and requests of each row."""
    rows = await tenant.rows("SELECT code, events, requests FROM refusals")
    return {(row["code"], row["events"], row["requests"]) for row in rows}


async def test_counts_add_up_over_flushes(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    organization_id, statistics = tenant.organization.id, RejectionStatistics()
    async with await tenant.connect() as db:
        for _ in range(2):
            statistics.count_events(account(organization_id, now_us()), REJECTED)
            statistics.count_request(organization_id, ErrorCode.RATE_LIMITED, now_us())
            await statistics.flush(db)
        await statistics.flush(db)
    assert await counts(tenant) == {("invalid_body", 6, 0), ("rate_limited", 0, 2)}


async def test_a_flush_that_fails_keeps_the_counts(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    statistics = RejectionStatistics()
    statistics.count_events(account(tenant.organization.id, now_us()), REJECTED)
    async with await tenant.connect() as db:
        await db.execute("ALTER TABLE refusals RENAME TO away")
        with pytest.raises(psycopg.errors.UndefinedTable):
            await statistics.flush(db)
        await db.execute("ALTER TABLE away RENAME TO refusals")
        await statistics.flush(db)
    assert await counts(tenant) == {("invalid_body", 3, 0)}


async def test_there_are_at_most_so_many_counts(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core.journal.rejection_statistics, "MAX_COUNTERS", 1)
    tenant = await make_tenant(database_url)
    statistics = RejectionStatistics()
    for code in (ErrorCode.RATE_LIMITED, ErrorCode.PLAN_DISABLED, ErrorCode.RATE_LIMITED):
        statistics.count_request(tenant.organization.id, code, now_us())
    async with await tenant.connect() as db:
        await statistics.flush(db)
    assert await counts(tenant) == {("rate_limited", 0, 2)}
