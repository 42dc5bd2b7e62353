"""The status of a COMMIT without an answer."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

import core.journal.commit_status
from core import ids
from core.errors import UnknownCommitStatusError
from core.journal.app_producers import open_stream
from core.journal.commit_status import was_committed
from core.journal.producers import producer_key
from core.journal.transaction import Mode, Transaction
from core.journal.workers import WorkerCache
from core.models import StreamPosition
from tests.support.databases import read_only
from tests.support.direct_writer import DirectWriter

pytestmark = pytest.mark.anyio

ENDED = "1"  # the id of a transaction long past


def lost(writer: DirectWriter) -> Transaction:
    """A transaction whose COMMIT got no answer, of which nothing is stored."""
    transaction = Transaction(
        [writer.request(1)], WorkerCache(), writer.clock.now_us(), Mode.STEPWISE
    )
    transaction.transaction_id = ENDED
    transaction.probe_row = (writer.tenant.organization.id, UUID(int=7))
    return transaction


async def test_the_row_decides_and_not_the_status_of_the_id(quota_of_five: DirectWriter) -> None:
    transaction = lost(quota_of_five)
    database, clock = quota_of_five.database, quota_of_five.clock
    async with quota_of_five.database.connection() as db:
        row = await (await db.execute("SELECT pg_current_xact_id()::text")).fetchone()
        assert row is not None
        transaction.transaction_id = row[0]  # committed, as the status would say
    assert not await was_committed(database, clock, transaction)
    await quota_of_five.write(quota_of_five.request(1))
    [stored] = await quota_of_five.tenant.rows("SELECT id FROM events")
    transaction.probe_row = (quota_of_five.tenant.organization.id, stored["id"])
    assert await was_committed(database, clock, transaction)


async def test_a_transaction_in_progress_has_not_ended(
    quota_of_five: DirectWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core.journal.commit_status, "STATUS_SECONDS", 0.3)
    transaction = lost(quota_of_five)
    async with await quota_of_five.tenant.connect() as db, db.transaction():
        row = await (await db.execute("SELECT pg_current_xact_id()::text")).fetchone()
        assert row is not None
        transaction.transaction_id = row[0]
        with pytest.raises(UnknownCommitStatusError):
            await was_committed(quota_of_five.database, quota_of_five.clock, transaction)


@pytest.mark.parametrize("committed", [True, False])
async def test_a_transaction_in_progress_is_waited_for(
    quota_of_five: DirectWriter, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    monkeypatch.setattr(core.journal.commit_status, "STATUS_PAUSE_SECONDS", 0.01)
    await quota_of_five.write(quota_of_five.request(1))
    [stored] = await quota_of_five.tenant.rows("SELECT id FROM events")
    transaction = lost(quota_of_five)
    row_id = ids.new(quota_of_five.clock.now_us())
    transaction.probe_row = (quota_of_five.tenant.organization.id, row_id)
    async with await quota_of_five.tenant.connect() as db:
        await db.execute("BEGIN")
        await db.execute("UPDATE events SET id = %s WHERE id = %s", (row_id, stored["id"]))
        row = await (await db.execute("SELECT pg_current_xact_id()::text")).fetchone()
        assert row is not None
        transaction.transaction_id = row[0]
        asked = asyncio.create_task(
            was_committed(quota_of_five.database, quota_of_five.clock, transaction)
        )
        done, _ = await asyncio.wait({asked}, timeout=0.2)
        assert not done
        await db.execute("COMMIT" if committed else "ROLLBACK")
        assert await asyncio.wait_for(asked, 20) is committed


async def test_without_a_row_the_producers_decide(quota_of_five: DirectWriter) -> None:
    producer = producer_key(quota_of_five.caller, "p")
    async with quota_of_five.database.connection() as db:
        opened = await open_stream(db, producer, quota_of_five.clock.now_us())
    transaction = lost(quota_of_five)
    transaction.probe_row = None
    transaction.advanced = {producer: opened._replace(sequence=1)}
    database, clock = quota_of_five.database, quota_of_five.clock
    assert not await was_committed(database, clock, transaction)
    position = StreamPosition("p", opened.epoch, 1)
    await quota_of_five.write(quota_of_five.request(1, position=position))
    assert await was_committed(database, clock, transaction)


async def test_an_id_of_the_future_was_lost_in_a_crash(quota_of_five: DirectWriter) -> None:
    transaction = lost(quota_of_five)
    transaction.transaction_id = str(2**40)
    assert not await was_committed(quota_of_five.database, quota_of_five.clock, transaction)


async def test_a_database_that_is_read_only_does_not_tell(
    quota_of_five: DirectWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be a standby, which has not heard of the transaction yet."""
    monkeypatch.setattr(core.journal.commit_status, "STATUS_SECONDS", 0.3)
    transaction = lost(quota_of_five)
    async with await quota_of_five.tenant.connect() as db, read_only(db):
        with pytest.raises(UnknownCommitStatusError):
            await was_committed(quota_of_five.database, quota_of_five.clock, transaction)
