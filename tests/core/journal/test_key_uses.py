"""The last use of a key: noted in memory, written about once a minute."""

from __future__ import annotations

import asyncio

import psycopg
import pytest
from msgspec import structs

from core.journal import key_uses
from core.journal.key_uses import EXACT_SECONDS, KeyUses
from core.models import Caller
from core.timestamps import from_datetime
from tests.support.direct_writer import DirectWriter
from tests.support.manual_time import ManualTime
from tests.support.tenant import Tenant

pytestmark = pytest.mark.anyio


async def used_us(tenant: Tenant) -> list[int]:
    """The last use of each key."""
    rows = await tenant.rows("SELECT used_at FROM key_uses")
    return [from_datetime(row["used_at"]) for row in rows]


async def test_a_use_is_written_at_once_and_then_once_a_minute(quota_of_five: DirectWriter) -> None:
    time, tenant = ManualTime(), quota_of_five.tenant
    uses = KeyUses(time.clock)
    async with await tenant.connect() as db:
        written_us = [time.now_us]
        for seconds, is_written in (
            (0, True),
            (EXACT_SECONDS - 1, False),
            (1, True),
            (EXACT_SECONDS - 1, False),
        ):
            time.advance(seconds)
            uses.note(quota_of_five.caller)
            assert bool(uses) is is_written
            if is_written:
                written_us = [time.now_us]
            await uses.flush(db)
            assert await used_us(tenant) == written_us
            assert not uses


async def test_of_several_processes_the_latest_use_stays(quota_of_five: DirectWriter) -> None:
    tenant, time = quota_of_five.tenant, ManualTime()
    processes = [KeyUses(time.clock) for _ in range(3)]
    for process in processes:
        time.advance(1)
        process.note(quota_of_five.caller)
    async with await tenant.connect() as db:
        for process in reversed(processes):
            await process.flush(db)
    assert await used_us(tenant) == [time.now_us]


async def test_a_flush_that_fails_keeps_the_uses(quota_of_five: DirectWriter) -> None:
    tenant, time = quota_of_five.tenant, ManualTime()
    uses = KeyUses(time.clock)
    uses.note(quota_of_five.caller)
    async with await tenant.connect() as db:
        await db.execute("ALTER TABLE key_uses RENAME TO away")
        with pytest.raises(psycopg.errors.UndefinedTable):
            await uses.flush(db)
        await db.execute("ALTER TABLE away RENAME TO key_uses")
        await uses.flush(db)
    assert await used_us(tenant) == [time.now_us]


async def test_there_are_at_most_so_many_keys(
    quota_of_five: DirectWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_uses, "MAX_KEYS", 2)
    time = ManualTime()
    uses, callers = KeyUses(time.clock), [await another_caller(quota_of_five) for _ in range(3)]
    async with await quota_of_five.tenant.connect() as db:
        for _ in range(2):
            for caller in callers:
                uses.note(caller)
            await uses.flush(db)
            assert len(await used_us(quota_of_five.tenant)) == 2
            time.advance(EXACT_SECONDS)
        uses.note(callers[2])
        await uses.flush(db)
        assert len(await used_us(quota_of_five.tenant)) == 3
    assert len(uses._due) == 2


async def test_uses_that_are_noted_during_a_flush_that_fails_are_within_the_bound(
    quota_of_five: DirectWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_uses, "MAX_KEYS", 2)
    uses = KeyUses(ManualTime().clock)
    callers = [await another_caller(quota_of_five) for _ in range(4)]
    async with await quota_of_five.tenant.connect() as db:
        await db.execute("ALTER TABLE key_uses RENAME TO away")
        for caller in callers[:2]:
            uses.note(caller)
        flushing = asyncio.create_task(uses.flush(db))
        await asyncio.sleep(0)
        for caller in callers[2:]:
            uses.note(caller)
        with pytest.raises(psycopg.errors.UndefinedTable):
            await flushing
        await db.execute("ALTER TABLE away RENAME TO key_uses")
        await uses.flush(db)
    assert len(await used_us(quota_of_five.tenant)) == 2


async def test_uses_of_keys_that_are_gone_are_deleted(quota_of_five: DirectWriter) -> None:
    uses, tenant = KeyUses(quota_of_five.clock), quota_of_five.tenant
    gone = await another_caller(quota_of_five)
    for caller in (quota_of_five.caller, gone):
        uses.note(caller)
    async with await tenant.connect() as db:
        await db.execute("DELETE FROM api_keys WHERE id = %s", (gone.key_id,))
        await uses.flush(db)
        assert await key_uses.clean(db) == 1
    rows = await tenant.rows("SELECT key_id FROM key_uses")
    assert [row["key_id"] for row in rows] == [quota_of_five.caller.key_id]


async def another_caller(writer: DirectWriter) -> Caller:
    """The caller with another key of the same app."""
    other = await writer.tenant.another_key()
    return structs.replace(writer.caller, key_id=other.api_key.id)
