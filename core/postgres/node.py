"""A database server that cells live on: its pools, which all of its cells share.

Sessions are lent to one cell at a time, whose schema they are turned to if another cell had them
before (:func:`core.postgres.search_path.use_schema`).
"""

from __future__ import annotations

import asyncio
import contextlib
import types
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Mapping
from typing import Any, Final

import psycopg
from psycopg.errors import ReadOnlySqlTransaction
from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool

from core.postgres import session_lock
from core.postgres.errors import DatabaseUnusableError, NoAnswerError, is_unwritable
from core.postgres.search_path import use_schema
from core.postgres.sessions import (
    JOURNAL_SETTINGS,
    SETTINGS,
    Connection,
    configure,
    connect,
    is_writable,
    session_conninfo,
    session_settings,
    widen_send_buffer,
)

MAX_POOL_CONNECTIONS: Final = 8
# Work that nobody waits for may wait for a lock; requests of other cells find the others.
MAX_BACKGROUND_CONNECTIONS: Final = 3
# Of one journal: two queues, three lock waits, one commit status. A journal needs no more.
MAX_JOURNAL_CONNECTIONS: Final = 6
# Of all journals of a node. The queues of many cells share what lock waits leave of them.
MAX_NODE_JOURNAL_CONNECTIONS: Final = 16
MAX_LOCKED_WRITERS: Final = 3  # lock waits of all journals of a node that are tried at a time
MAX_POOL_WAITERS: Final = 256  # of each pool; one more is refused at once
CHECKOUT_SECONDS: Final = 3.0
RECONNECT_PAUSE_SECONDS: Final = 0.05  # between two tries whether the server is back
READ_ONLY_PAUSE_SECONDS: Final = 0.2  # the same, where each try costs a server that answers
# A pool that has lost a connection gives up after so long, and `Node` fills it again once the
# server is back. By itself it would pause for 1, 2, 4 seconds, and notice that much later.
RECONNECT_SECONDS: Final = 0.1
CHECK_SECONDS: Final = 3.0


class Node:
    """The pools of one database server.

    ``has_refused_write``: since it was last set to False, a write failed for a reason that may last
    (:func:`core.postgres.errors.is_unwritable`). ``background`` and ``locked_writers`` bound the
    connections of work that may wait for a lock, so that one cell's lock leaves the others enough.
    """

    def __init__(self, conninfo: str, max_connections: int) -> None:
        self._conninfo = conninfo
        self.has_refused_write = False
        self.background = asyncio.Semaphore(MAX_BACKGROUND_CONNECTIONS)
        self.locked_writers = asyncio.Semaphore(MAX_LOCKED_WRITERS)
        # Work that nobody waits for lives on until its connections have noticed.
        self._abandoned: set[asyncio.Task[Any]] = set()
        self._checking: asyncio.Task[None] | None = None
        self.pool = _pool(conninfo, SETTINGS, max_connections, self._on_given_up)
        # The journals have a pool of their own. Its sessions have another lock_timeout, without
        # another statement each time, and a flood of look-ups does not keep them waiting.
        self.journal_pool = _pool(
            conninfo,
            JOURNAL_SETTINGS,
            MAX_NODE_JOURNAL_CONNECTIONS,
            self._on_given_up,
            # The journal prepares its statements itself (core/postgres/pipeline.py). If psycopg had
            # some of its own, it would deallocate all of them at every rollback.
            prepare_threshold=None,
            hold_lock=True,
        )

    async def open(self) -> None:
        """Open the pools; their first connections are made meanwhile."""
        await self.pool.open()
        await self.journal_pool.open()

    async def close(self) -> None:
        """Close the pools."""
        if self._checking is not None:
            self._checking.cancel()
        await self.journal_pool.close(timeout=CHECKOUT_SECONDS)
        await self.pool.close(timeout=CHECKOUT_SECONDS)

    @contextlib.asynccontextmanager
    async def lent(self, pool: Pool, schema: str | None) -> AsyncIterator[Connection]:
        """A session of the pool in that schema; None: with the search path of its own.

        The pool gets it back even if the caller is cancelled by then: a task that is cancelled
        inside of ``putconn`` would lose the connection for good.
        """
        connection = await pool.getconn()
        try:
            await use_schema(connection, schema)
            yield connection
        except psycopg.Error as error:
            borrower = asyncio.current_task()
            if borrower is not None and borrower.cancelling():
                # Its session was closed then, and the error of that hides why.
                raise asyncio.CancelledError from error
            self.has_refused_write = self.has_refused_write or is_unwritable(error)
            if isinstance(error, ReadOnlySqlTransaction):
                # It may stay so: its server was the primary, or the session began while nobody
                # might write. The pool makes another.
                await connection.close()
            raise
        finally:
            await self._give_back(pool, connection)

    async def _give_back(self, pool: Pool, connection: Connection) -> None:
        """Return a session to its pool: at once, if nobody is at the pool.

        An answer waits for this, and a task would take two turns of the event loop.
        """
        giving_back = pool.putconn(connection)
        if connection.pgconn.transaction_status == TransactionStatus.IDLE:
            try:
                awaited = giving_back.send(None)
            except StopIteration:
                return
            giving_back = _rest_of(giving_back, awaited)
        task = asyncio.create_task(giving_back)
        self.abandon(task)
        await asyncio.shield(task)

    def abandon(self, task: asyncio.Task[Any]) -> None:
        """Let a task live on until it ends; its result and its error are dropped."""
        self._abandoned.add(task)
        task.add_done_callback(self._end_abandoned)

    def _end_abandoned(self, task: asyncio.Task[Any]) -> None:
        self._abandoned.discard(task)
        if not task.cancelled():
            task.exception()  # asyncio would log it otherwise

    def _on_given_up(self, _pool: object) -> None:
        self.check_soon()  # fills the pools again once the server is back

    def check_soon(self) -> asyncio.Task[None]:
        """Wait in a task until the server can be written to, and replace what does not work then.

        There is one such task at a time. It must not be cancelled: a pool would lose the
        connections that it is checking.
        """
        if self._checking is None or self._checking.done():
            self._checking = asyncio.create_task(self._check())
        return self._checking

    async def _check(self) -> None:
        await self._until_writable()
        for pool in (self.pool, self.journal_pool):
            with contextlib.suppress(psycopg.Error):
                await pool.check()

    async def _until_writable(self) -> None:
        while True:
            pause = RECONNECT_PAUSE_SECONDS
            try:
                async with await connect(self._conninfo) as db:
                    if await is_writable(db):
                        return
                pause = READ_ONLY_PAUSE_SECONDS
            except (psycopg.Error, OSError, DatabaseUnusableError):
                pass
            await asyncio.sleep(pause)


class Pool(AsyncConnectionPool[Connection]):
    """A pool that looks whether its connections can write when it checks them."""

    @staticmethod
    async def check_connection(conn: Connection) -> None:
        """Close the connection and raise an error if it works no more, or cannot write."""
        if not await is_writable(conn):
            await conn.close()
            raise NoAnswerError("the session is read-only")


@types.coroutine
def _rest_of(begun: Coroutine[Any, None, None], awaited: Any) -> Generator[Any]:
    """The rest of a coroutine that was begun and waits for something, for a task to go on with."""
    with contextlib.suppress(StopIteration):
        while True:
            yield awaited
            awaited = begun.send(None)


def _pool(
    conninfo: str,
    settings: Mapping[str, str],
    max_connections: int,
    on_given_up: Callable[[object], None],
    *,
    prepare_threshold: int | None = 1,
    hold_lock: bool = False,
) -> Pool:
    """A pool whose sessions have the settings, and a lock each; it is opened later."""
    settings = session_settings(conninfo, settings)

    async def prepare(db: Connection) -> None:
        await configure(db, settings)
        await widen_send_buffer(db)
        if hold_lock:
            await session_lock.hold(db)

    return Pool(
        session_conninfo(conninfo),
        kwargs={"autocommit": True, "prepare_threshold": prepare_threshold},
        min_size=2,
        max_size=max_connections,
        timeout=CHECKOUT_SECONDS,
        max_waiting=MAX_POOL_WAITERS,
        reconnect_timeout=RECONNECT_SECONDS,
        reconnect_failed=on_given_up,
        open=False,
        configure=prepare,
        name="wepeople-ingest",
    )
