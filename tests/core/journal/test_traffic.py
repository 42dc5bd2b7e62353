"""Traffic: summed in memory by app and minute, added to the database, never lost by a failure."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from msgspec import structs

from core import ids
from core.error_codes import ErrorCode
from core.journal import key_uses, traffic
from core.journal.traffic import KEPT_MINUTES, Traffic
from core.models import Caller
from core.timestamps import US_PER_MINUTE, to_datetime
from tests.support.direct_writer import DirectWriter
from tests.support.manual_time import ManualTime
from tests.support.tenant import Tenant

pytestmark = pytest.mark.anyio


@pytest.fixture
def time() -> ManualTime:
    """A time at the beginning of a minute."""
    manual = ManualTime()
    manual.advance_to((manual.now_us // US_PER_MINUTE + 1) * US_PER_MINUTE)
    return manual


@pytest.fixture
def caller(quota_of_five: DirectWriter) -> Caller:
    return quota_of_five.caller


@pytest.fixture
def tenant(quota_of_five: DirectWriter) -> Tenant:
    return quota_of_five.tenant


def note(noted: Traffic, time: ManualTime, caller: Caller, milliseconds: float = 1) -> None:
    """Note a request with two accepted and one rejected event that has taken so long."""
    began_at = time.clock.monotonic()
    time.advance(milliseconds / 1_000)
    noted.note_answer(caller, 2, 1, began_at)


async def sums(tenant: Tenant) -> list[tuple[Any, ...]]:
    """The requests, events, milliseconds and slowest of each minute, oldest first."""
    rows = await tenant.rows("SELECT * FROM traffic ORDER BY minute, app_id")
    columns = ("requests", "accepted", "rejected", "milliseconds", "slowest")
    return [tuple(round(row[column]) for column in columns) for row in rows]


async def test_requests_add_up_by_minute_over_flushes_and_processes(
    tenant: Tenant, caller: Caller, time: ManualTime
) -> None:
    processes = Traffic(time.clock), Traffic(time.clock)
    async with await tenant.connect() as db:
        for milliseconds, process in ((10, 0), (30, 1), (20, 0)):
            note(processes[process], time, caller, milliseconds)
            await processes[process].flush(db)
        time.advance(60)
        note(processes[0], time, caller, 40)
        note(processes[0], time, caller, 50)
        await processes[0].flush(db)
        await processes[0].flush(db)
    assert await sums(tenant) == [(3, 6, 3, 60, 30), (2, 4, 2, 90, 50)]


async def test_a_failure_of_the_service_is_no_traffic(
    tenant: Tenant, caller: Caller, time: ManualTime
) -> None:
    noted = Traffic(time.clock)
    began_at = time.clock.monotonic()
    noted.note_refusal(caller, ErrorCode.INTERNAL_ERROR, 5, began_at)
    assert not noted
    noted.note_refusal(caller, ErrorCode.QUOTA_EXCEEDED, 5, began_at)
    async with await tenant.connect() as db:
        await noted.flush(db)
    assert await sums(tenant) == [(1, 0, 5, 0, 0)]


async def test_a_flush_that_fails_keeps_what_it_has_not_written(
    tenant: Tenant, caller: Caller, time: ManualTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traffic, "MAX_WRITTEN", 1)
    noted = Traffic(time.clock)
    note(noted, time, caller)
    time.advance(60)
    note(noted, time, caller)
    async with await tenant.connect() as db:
        await db.execute("ALTER TABLE traffic ADD CHECK (minute < %s)".replace("%s", later(time)))
        with pytest.raises(psycopg.errors.CheckViolation):
            await noted.flush(db)
        assert await sums(tenant) == [(1, 2, 1, 1, 1)]
        note(noted, time, caller, 5)
        await db.execute("ALTER TABLE traffic DROP CONSTRAINT traffic_minute_check")
        await noted.flush(db)
    assert await sums(tenant) == [(1, 2, 1, 1, 1), (2, 4, 2, 6, 5)]


def later(time: ManualTime) -> str:
    """This minute, as an SQL literal."""
    return f"'{to_datetime(time.now_us // US_PER_MINUTE * US_PER_MINUTE).isoformat()}'"


async def test_there_are_at_most_so_many_sums_and_the_log_tells_what_is_left_out(
    tenant: Tenant,
    caller: Caller,
    time: ManualTime,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(traffic, "MAX_SUMS", 1)
    noted = Traffic(time.clock)
    other = structs.replace(caller, app_id=ids.new(time.now_us))
    for one in (caller, other, other, caller):
        note(noted, time, one)
    async with await tenant.connect() as db:
        await noted.flush(db)
        assert await sums(tenant) == [(2, 4, 2, 2, 1)]
        assert "traffic of 2 requests" in caplog.text
        note(noted, time, other)
        await noted.flush(db)
    assert len(await sums(tenant)) == 2


async def test_old_minutes_are_deleted(tenant: Tenant, caller: Caller, time: ManualTime) -> None:
    noted = Traffic(time.clock)
    note(noted, time, caller)
    time.advance(timedelta(minutes=KEPT_MINUTES).total_seconds())
    note(noted, time, caller)
    async with await tenant.connect() as db:
        await noted.flush(db)
        assert await traffic.clean(db, time.now_us) == 1
        assert await traffic.clean(db, time.now_us) == 0
    assert len(await sums(tenant)) == 1


async def test_uses_of_keys_are_written_with_it(
    tenant: Tenant, caller: Caller, time: ManualTime
) -> None:
    noted = Traffic(time.clock)
    noted.key_uses.note(caller)
    assert noted
    async with await tenant.connect() as db:
        await noted.flush(db)
        assert await key_uses.clean(db) == 0
    [row] = await tenant.rows("SELECT used_at FROM key_uses WHERE key_id = %s", caller.key_id)
    assert row["used_at"] == to_datetime(time.now_us)
