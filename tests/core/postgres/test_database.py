"""The pools of connections, and the bounds of time on work with the database."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import time

import pytest

from core.errors import IngestError
from core.postgres.database import Database
from core.postgres.errors import DatabaseUnusableError, NoAnswerError
from core.postgres.node import MAX_POOL_CONNECTIONS
from core.postgres.pipeline import BEGIN, Command, send
from tests.support.database import connect
from tests.support.tenant import make_tenant

pytestmark = pytest.mark.anyio

END_POOLED = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


async def test_a_transaction_is_committed_at_its_end_and_rolled_back_when_it_raises(
    database_url: str,
) -> None:
    async with Database(database_url) as database:
        async with database.transaction() as db:
            await db.execute("CREATE TABLE kept ()")
        with contextlib.suppress(KeyError):
            async with database.transaction() as db:
                await db.execute("CREATE TABLE dropped ()")
                raise KeyError
        async with database.connection() as db:
            cursor = await db.execute("SELECT to_regclass('kept'), to_regclass('dropped')")
            assert await cursor.fetchone() == ("kept", None)


async def test_a_statement_that_waits_for_too_long_is_a_temporary_failure(
    database_url: str,
) -> None:
    async def select_soon(database: Database) -> None:
        async with database.connection() as db:
            await db.execute("SET lock_timeout = '50ms'")
            await db.execute("SELECT FROM organizations")

    async with Database(database_url) as database, await connect(database_url) as other:
        await other.execute("BEGIN")
        await other.execute("LOCK TABLE organizations")
        with pytest.raises(IngestError) as caught:
            await select_soon(database)
        assert (caught.value.code, caught.value.transient) == ("internal_error", True)
        assert "busy" in caught.value.message


async def test_stale_connections_are_replaced(database_url: str) -> None:
    async with Database(database_url) as database, await connect(database_url) as admin:
        await database._node.pool.wait()
        await admin.execute(END_POOLED)
        await database.discard_stale()
        for _ in range(2 * MAX_POOL_CONNECTIONS):
            async with database.connection() as db:
                await db.execute("SELECT 1")
        async with database.journal_connection(60) as db:
            await send(db, [Command("SELECT 1")])


async def test_work_that_takes_too_long_is_cancelled_but_not_waited_for(
    database_url: str,
) -> None:
    database = Database(database_url)
    may_end, ended = asyncio.Event(), asyncio.Event()

    async def stubborn() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await may_end.wait()
            ended.set()

    with pytest.raises(NoAnswerError, match=r"within 0\.05 s"):
        await database.within(0.05, stubborn())
    assert len(database._node._abandoned) == 1
    may_end.set()
    await asyncio.wait_for(ended.wait(), 20)

    async def quick() -> int:
        return 7

    assert await database.within(20, quick()) == 7


async def test_work_that_fails_while_its_caller_is_cancelled_is_not_told_of(
    database_url: str,
) -> None:
    database = Database(database_url)
    failed = asyncio.Event()

    async def failing() -> None:
        failed.set()
        raise KeyError

    caller = asyncio.create_task(database.within(20, failing()))
    await failed.wait()
    caller.cancel()
    await asyncio.wait({caller})
    assert caller.cancelled()
    await asyncio.sleep(0)
    gc.collect()  # an error that nobody has asked for fails the test
    assert not database._node._abandoned


async def test_an_unreachable_server_is_told_with_what_to_check(database_url: str) -> None:
    await Database(database_url).wait_until_reachable(0)
    with pytest.raises(DatabaseUnusableError, match="check DATABASE_URL"):
        await Database("host=127.0.0.1 port=1 dbname=none").wait_until_reachable(0)


async def test_a_dedicated_connection_has_its_name(database_url: str) -> None:
    async with await Database(database_url).dedicated("wepeople-ingest test") as db:
        cursor = await db.execute("SELECT current_setting('application_name')")
        assert await cursor.fetchone() == ("wepeople-ingest test",)


async def test_a_rollback_does_not_wait_for_a_server_that_hangs(database_url: str) -> None:
    await make_tenant(database_url)
    stopped: list[int] = []

    async def fail(database: Database) -> None:
        async with database.journal_connection(0.5) as db:
            await send(db, [Command(BEGIN)])
            stopped.append(db.info.backend_pid)
            os.kill(stopped[0], signal.SIGSTOP)
            raise KeyError

    async with Database(database_url) as database:
        begun = time.monotonic()
        try:
            with pytest.raises(KeyError):
                await fail(database)
            assert time.monotonic() - begun < 5
        finally:
            for backend in stopped:
                os.kill(backend, signal.SIGCONT)
