"""The lock of a session: held as long as the session lives."""

from __future__ import annotations

import pytest

from core.postgres import session_lock
from core.postgres.database import Database
from core.postgres.sessions import Connection
from tests.support.database import connect
from tests.support.frozen_session import frozen_session
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio


async def is_free(db: Connection, lock: int | None) -> bool:
    """Whether nobody holds the lock; it is given back at once."""
    cursor = await db.execute("SELECT pg_try_advisory_xact_lock(%s)", (lock,))
    return await cursor.fetchone() == (True,)


async def test_a_lock_is_held_until_the_session_ends(database_url: str) -> None:
    async with await connect(database_url) as other:
        db = await connect(database_url)
        await session_lock.hold(db)
        lock = session_lock.held_by(db)
        assert lock is not None
        async with db.transaction(force_rollback=True):
            await db.execute("SELECT 1")
        assert not await is_free(other, lock)
        await db.close()
        await eventually(lambda: is_free(other, lock), "the session has ended")


async def test_sessions_of_the_journal_have_a_lock_each(database_url: str) -> None:
    async with Database(database_url) as database:
        async with database.journal_connection(60) as one, database.journal_connection(60) as two:
            locks = {session_lock.held_by(one), session_lock.held_by(two)}
        async with database.connection() as general:
            assert session_lock.held_by(general) is None
    assert len(locks) == 2
    assert None not in locks


async def test_there_is_none_where_citus_is_loaded(database_url: str) -> None:
    """The session of one node does not tell what another node is still at."""
    async with await connect(database_url) as db:
        await db.execute("SET citus.shard_count = 32")
        await session_lock.hold(db)
        assert session_lock.held_by(db) is None


async def test_a_session_is_not_waited_for_without_an_end(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pool has few tasks that make sessions; one before a host that hangs must not keep one."""
    monkeypatch.setattr(session_lock, "SESSION_SECONDS", 0.2)
    async with frozen_session(database_url) as db:
        await session_lock.hold(db)
    assert session_lock.held_by(db) is None
