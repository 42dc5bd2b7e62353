"""The status of a COMMIT without an answer."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest
from psycopg import AsyncConnection

import core.journal.commit_status
from core import ids
from core.errors import UnknownCommitStatusError
from core.journal.app_producers import open_stream
from core.journal.commit_lock import CommitLock, is_free
from core.journal.commit_status import was_committed
from core.journal.mode import Mode
from core.journal.producers import producer_key
from core.journal.transaction import Transaction
from core.journal.workers import WorkerCache
from core.models import Receipt, StreamPosition, Worker
from core.postgres.sessions import Connection
from tests.support.databases import read_only
from tests.support.direct_writer import DirectWriter
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio


def lost(writer: DirectWriter) -> Transaction:
    """A transaction whose COMMIT got no answer, of which nothing is stored."""
    transaction = Transaction(
        [writer.request(1)], WorkerCache(), writer.clock.now_us(), Mode.STEPWISE
    )
    transaction.commit_lock = CommitLock.of([writer.tenant.organization.id])
    transaction.probe_row = (writer.tenant.organization.id, UUID(int=7))
    return transaction


async def take_lock(db: AsyncConnection[Any], transaction: Transaction) -> None:
    assert transaction.commit_lock is not None
    await db.execute("SELECT pg_advisory_xact_lock(%s)", (transaction.commit_lock.id,))


async def test_the_row_decides(quota_of_five: DirectWriter) -> None:
    transaction = lost(quota_of_five)
    database, clock = quota_of_five.database, quota_of_five.clock
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
        await take_lock(db, transaction)
        with pytest.raises(UnknownCommitStatusError):
            await was_committed(quota_of_five.database, quota_of_five.clock, transaction)


async def test_a_row_that_is_there_decides_whoever_holds_the_lock(
    quota_of_five: DirectWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a session whose connection is lost, which the server has not noticed."""
    monkeypatch.setattr(core.journal.commit_status, "STATUS_SECONDS", 0.3)
    await quota_of_five.write(quota_of_five.request(1))
    [stored] = await quota_of_five.tenant.rows("SELECT id FROM events")
    transaction = lost(quota_of_five)
    transaction.probe_row = (quota_of_five.tenant.organization.id, stored["id"])
    async with await quota_of_five.tenant.connect() as db, db.transaction():
        await take_lock(db, transaction)
        assert await was_committed(quota_of_five.database, quota_of_five.clock, transaction)


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
        await take_lock(db, transaction)
        await db.execute("UPDATE events SET id = %s WHERE id = %s", (row_id, stored["id"]))
        asked = asyncio.create_task(
            was_committed(quota_of_five.database, quota_of_five.clock, transaction)
        )
        done, _ = await asyncio.wait({asked}, timeout=0.2)
        assert not done
        await db.execute("COMMIT" if committed else "ROLLBACK")
        assert await asyncio.wait_for(asked, 20) is committed


@pytest.mark.parametrize("mode", [Mode.OPTIMISTIC, Mode.STEPWISE, Mode.LOCKED])
async def test_a_transaction_has_its_lock_before_it_commits_and_until_it_is_over(
    quota_of_five: DirectWriter, mode: Mode
) -> None:
    requests = [quota_of_five.request(1) for _ in "ab"]
    await quota_of_five.write(quota_of_five.request(1))  # so that the worker and an account exist
    [worker] = await quota_of_five.tenant.rows("SELECT id, display_name FROM workers")
    cache = WorkerCache()
    known = dict.fromkeys(requests[0].names, Worker(worker["id"], worker["display_name"]))
    cache.remember(known, {quota_of_five.tenant.organization.id: 0})
    transaction = Transaction(requests, cache, quota_of_five.clock.now_us(), mode)
    database = quota_of_five.database

    async def write() -> None:
        async with database.journal_connection(60) as db:
            await transaction.write(db, lock_seconds=60)

    async with await quota_of_five.tenant.connect() as other, database.connection() as asking:
        await asking.execute("SET lock_timeout = '20ms'")
        async with other.transaction():
            table = "quota_usage" if mode is not Mode.LOCKED else "events"
            await other.execute(f"LOCK TABLE {table} IN EXCLUSIVE MODE".encode())
            writing = asyncio.create_task(write())

            async def is_held() -> bool:
                lock = transaction.commit_lock
                return lock is not None and not await is_free(asking, lock)

            await eventually(is_held, "the transaction has its lock")
            assert not writing.done()
        await asyncio.wait_for(writing, 20)
        assert transaction.committing
        await asking.execute("SET lock_timeout = '20s'")
        assert transaction.commit_lock is not None
        assert await is_free(asking, transaction.commit_lock)


async def test_without_the_organization_nothing_tells(quota_of_five: DirectWriter) -> None:
    async with quota_of_five.database.connection() as db:
        assert not await is_free(db, CommitLock.of([UUID(int=7)]))


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


async def test_a_database_that_is_read_only_does_not_tell(
    quota_of_five: DirectWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be a standby, which has not heard of the transaction yet."""
    monkeypatch.setattr(core.journal.commit_status, "STATUS_SECONDS", 0.3)
    transaction = lost(quota_of_five)
    async with await quota_of_five.tenant.connect() as db, read_only(db):
        with pytest.raises(UnknownCommitStatusError):
            await was_committed(quota_of_five.database, quota_of_five.clock, transaction)


COMMIT_SLOWLY = """
CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_sleep(2); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER linger AFTER INSERT ON events DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION linger();
"""


async def begin_and_cut(
    writer: DirectWriter, monkeypatch: pytest.MonkeyPatch
) -> asyncio.Task[Sequence[object]]:
    """A lone request whose connection is lost while the server is at its COMMIT, for two seconds.

    It is sent whole: its session's lock alone tells that it is not over.
    """
    await writer.write(writer.request(1))  # so that the worker is known
    await writer.tenant.rows(COMMIT_SLOWLY)
    sessions: list[Connection] = []
    write = Transaction.write

    async def note(transaction: Transaction, db: Connection, *given: Any) -> None:
        sessions.append(db)
        await write(transaction, db, *given)

    monkeypatch.setattr(Transaction, "write", note)
    writing = asyncio.create_task(writer.write(writer.request(1, key="a")))

    async def is_committing() -> bool:
        at_it = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        return bool(await writer.tenant.rows(at_it))

    await eventually(is_committing, "it is at its COMMIT")
    [session] = sessions
    with socket.socket(fileno=os.dup(session.pgconn.socket)) as same_socket:
        same_socket.shutdown(socket.SHUT_RDWR)
    return writing


async def test_a_commit_that_goes_on_behind_a_lost_connection_is_waited_for(
    quota_of_five: DirectWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    [receipt] = await (await begin_and_cut(quota_of_five, monkeypatch))
    assert isinstance(receipt, Receipt)
    assert (receipt.accepted, receipt.replayed) == (1, False)
    assert len(await quota_of_five.tenant.events()) == await quota_of_five.tenant.used() == 2


async def test_a_commit_that_goes_on_for_too_long_is_not_made_again(
    quota_of_five: DirectWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core.journal.commit_status, "STATUS_SECONDS", 0.0)
    with pytest.raises(UnknownCommitStatusError):
        await (await begin_and_cut(quota_of_five, monkeypatch))

    async def is_stored() -> bool:
        return len(await quota_of_five.tenant.events()) == 2

    await eventually(is_stored, "the server has committed")
    [receipt] = await quota_of_five.write(quota_of_five.request(1, key="a"))
    assert isinstance(receipt, Receipt)
    assert receipt.replayed
    assert await quota_of_five.tenant.used() == 2
