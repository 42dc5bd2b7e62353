"""Pools: what is lent comes back, whatever becomes of the borrower, and waiters are bounded."""

from __future__ import annotations

import asyncio

import pytest

import core.postgres.node
from core.errors import IngestError
from core.postgres.database import Database
from core.postgres.node import MAX_POOL_CONNECTIONS
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio


async def borrow(database: Database) -> None:
    """Use a connection for a moment."""
    async with database.connection() as db:
        await db.execute("SELECT 1")


async def test_borrowers_that_are_cancelled_at_any_moment_lose_no_connection(
    database_url: str,
) -> None:
    async with Database(database_url) as database:
        for steps in range(40):
            tasks = [asyncio.create_task(borrow(database)) for _ in range(3 * MAX_POOL_CONNECTIONS)]
            for _ in range(steps):
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        async with asyncio.timeout(10):
            await asyncio.gather(*(borrow(database) for _ in range(MAX_POOL_CONNECTIONS)))
        assert database._node.pool.get_stats()["pool_size"] <= MAX_POOL_CONNECTIONS


async def test_a_borrower_that_is_cancelled_again_meanwhile_ends_as_cancelled(
    database_url: str,
) -> None:
    async def sleep(database: Database) -> None:
        async with database.connection() as db:
            try:
                await db.execute("SELECT pg_sleep(30)")
            finally:
                await db.execute("SELECT 1")

    async with Database(database_url) as database:

        async def is_asleep() -> bool:
            async with database.connection() as db:
                cursor = await db.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(30)' "
                    "AND state = 'active' AND datname = current_database()"
                )
                return await cursor.fetchone() == (1,)

        task = asyncio.create_task(sleep(database))
        await eventually(is_asleep, "the session sleeps")
        task.cancel()
        await asyncio.sleep(0)  # the query is being cancelled at the server
        task.cancel()
        await asyncio.wait([task], timeout=10)
        assert task.cancelled()


async def test_a_session_is_given_back_without_a_turn_of_the_event_loop(database_url: str) -> None:
    async with Database(database_url) as database:
        turns: list[str] = []
        async with database.journal_connection(20) as db:
            await db.execute("SELECT 1")
            asyncio.get_running_loop().call_soon(turns.append, "a turn")
        assert turns == []
        assert database._node.journal_pool.get_stats()["pool_available"] >= 1


async def test_a_session_comes_back_to_a_pool_that_others_are_at(database_url: str) -> None:
    async with Database(database_url) as database:
        pool = database._node.pool

        async def lend(lent: asyncio.Event, end: asyncio.Event) -> None:
            async with database.connection():
                lent.set()
                await end.wait()

        def all_are_back() -> bool:
            stats = pool.get_stats()
            return stats["pool_available"] == stats["pool_size"]

        for cancelled in (False, True):
            lent, end = asyncio.Event(), asyncio.Event()
            lending = asyncio.create_task(lend(lent, end))
            await lent.wait()
            async with pool._lock:
                end.set()
                done, _ = await asyncio.wait({lending}, timeout=0.05)
                assert not done  # it waits for the pool
                if cancelled:
                    lending.cancel()
            await asyncio.wait({lending})
            assert lending.cancelled() == cancelled
            async with asyncio.timeout(10):
                await asyncio.gather(*(borrow(database) for _ in range(MAX_POOL_CONNECTIONS)))
            await eventually(all_are_back, "every session is back")


async def test_a_borrower_too_many_is_refused_at_once(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core.postgres.node, "MAX_POOL_WAITERS", 2)
    async with Database(database_url, max_connections=2) as database:
        async with database.connection(), database.connection():
            waiting = [asyncio.create_task(borrow(database)) for _ in range(2)]
            await asyncio.sleep(0.05)
            with pytest.raises(IngestError) as refused:
                await borrow(database)
            assert refused.value.transient
        await asyncio.gather(*waiting)
