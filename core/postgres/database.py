"""The connection pools of one database, and work on them within bounds of time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo
from psycopg_pool import AsyncConnectionPool

from core.postgres.errors import DatabaseUnusableError, NoAnswerError, is_passing, one_line, passing
from core.postgres.sessions import (
    JOURNAL_LOCK_MILLISECONDS,
    JOURNAL_SESSION_NAME,
    Connection,
    check_version,
    cut_after,
    session_conninfo,
    widen_send_buffer,
    with_option,
)

T = TypeVar("T")

MAX_POOL_CONNECTIONS: Final = 8
MAX_POOL_WAITERS: Final = 256  # of each pool; one more is refused at once
CHECKOUT_SECONDS: Final = 3.0
RECONNECT_PAUSE_SECONDS: Final = 0.2
# After so long without a connection the pool waits until it is asked for one again. Its pauses
# double: the longer it went on by itself, the later it would notice that the database is back.
RECONNECT_SECONDS: Final = 3.0
CHECK_SECONDS: Final = 3.0
MAX_JOURNAL_CONNECTIONS: Final = 6  # two queues, three lock waits, one commit status


class Database:
    """Pools of connections to one PostgreSQL database.

    Open it with ``async with``. Connections are in autocommit mode and prepare statements at once;
    those of the journal, from a pool of their own, prepare none. :meth:`discard_stale` is to be
    called when the server was away.
    """

    def __init__(self, conninfo: str, *, max_connections: int = MAX_POOL_CONNECTIONS) -> None:
        self.conninfo = session_conninfo(conninfo)
        # Work that nobody waits for lives on until its connections have noticed.
        self._abandoned: set[asyncio.Task[Any]] = set()
        self._checking: asyncio.Task[None] | None = None
        self._pool = _pool(self.conninfo, max_connections)
        # The journal has a pool of its own. Its sessions have another lock_timeout, without another
        # statement each time, and a flood of look-ups does not keep it waiting.
        self._journal_pool = _pool(
            make_conninfo(
                with_option(self.conninfo, "lock_timeout", f"{JOURNAL_LOCK_MILLISECONDS}ms"),
                application_name=JOURNAL_SESSION_NAME,
            ),
            MAX_JOURNAL_CONNECTIONS,
            # The journal prepares its statements itself (core/postgres/pipeline.py). If psycopg had
            # some of its own, it would deallocate all of them at every rollback.
            prepare_threshold=None,
            configure=widen_send_buffer,
        )

    async def __aenter__(self) -> Database:
        await self._pool.open()
        await self._journal_pool.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._checking is not None:
            self._checking.cancel()
        await self._journal_pool.close(timeout=CHECKOUT_SECONDS)
        await self._pool.close(timeout=CHECKOUT_SECONDS)

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection in autocommit mode.

        Raises :class:`IngestError` (``internal_error``, transient) when none can be had, when it
        is lost or when a statement waits for too long: what did not commit did not happen.
        """
        try:
            async with self._lent(self._pool) as connection, connection:
                yield connection
        except psycopg.Error as error:
            if not is_passing(error):
                raise
            raise passing(error) from error

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """One transaction, committed when the block ends, rolled back when it raises."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    @contextlib.asynccontextmanager
    async def raw_connection(self, seconds: float) -> AsyncIterator[Connection]:
        """A connection for the journal, in autocommit mode: errors are as psycopg raises them.

        It waits for a lock no longer than ``JOURNAL_LOCK_MILLISECONDS``. A transaction that is open
        when the block raises is rolled back. It is cut if it is used for longer than ``seconds``,
        the rollback included.
        """
        async with self._lent(self._journal_pool) as connection:
            with cut_after(connection, seconds):
                async with connection:
                    yield connection

    @contextlib.asynccontextmanager
    async def _lent(self, pool: AsyncConnectionPool[Connection]) -> AsyncIterator[Connection]:
        """A connection of the pool, which gets it back even if the caller is cancelled by then.

        A task that is cancelled inside of ``putconn`` would lose the connection for good.
        """
        connection = await pool.getconn()
        try:
            yield connection
        finally:
            giving_back = asyncio.create_task(pool.putconn(connection))
            self._abandoned.add(giving_back)
            giving_back.add_done_callback(self._forget)
            await asyncio.shield(giving_back)

    async def within(self, seconds: float, work: Coroutine[Any, Any, T]) -> T:
        """The result of work with the database; :class:`NoAnswerError` if it is not there in time.

        The work is then cancelled, but not waited for: psycopg gives a server that hangs ten
        seconds to take note.
        """
        task = asyncio.create_task(work)
        try:
            await asyncio.wait({task}, timeout=seconds)
            if task.done():
                return task.result()
        finally:
            if not task.done():
                task.cancel()
                self._abandoned.add(task)
                task.add_done_callback(self._forget)
        raise NoAnswerError(f"the database did not answer within {seconds:g} s")

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._abandoned.discard(task)
        if not task.cancelled():
            task.exception()  # nobody is there to hear of it

    async def discard_stale(self) -> None:
        """Replace pooled connections that no longer work, after the server was away.

        Otherwise each stale connection would be found by a request of its own, which fails. Waited
        for within bounds: connections on which nothing comes are found later.
        """
        if self._checking is None or self._checking.done():
            self._checking = asyncio.create_task(self._check())
        # Not cancelled: the pool would lose count of the connections it is looking at.
        await asyncio.wait({self._checking}, timeout=CHECK_SECONDS)

    async def _check(self) -> None:
        for pool in (self._pool, self._journal_pool):
            with contextlib.suppress(psycopg.Error):
                await pool.check()

    async def dedicated(self, application_name: str) -> Connection:
        """A connection of its own outside the pool; the caller closes it."""
        return await AsyncConnection.connect(
            make_conninfo(self.conninfo, application_name=application_name), autocommit=True
        )

    async def wait_until_reachable(self, seconds: float) -> None:
        """Return once the database answers; DatabaseUnusableError when it has not in time."""
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            try:
                async with await AsyncConnection.connect(self.conninfo) as connection:
                    check_version(connection.info.server_version)
                return
            except psycopg.OperationalError as error:
                if asyncio.get_running_loop().time() > deadline:
                    raise DatabaseUnusableError(
                        f"cannot connect to PostgreSQL: {one_line(error)} "
                        "(check DATABASE_URL and that the server is running)"
                    ) from error
                await asyncio.sleep(RECONNECT_PAUSE_SECONDS)


def _pool(
    conninfo: str,
    max_connections: int,
    *,
    prepare_threshold: int | None = 1,
    configure: Callable[[Connection], Awaitable[None]] | None = None,
) -> AsyncConnectionPool[Connection]:
    return AsyncConnectionPool(
        conninfo,
        kwargs={"autocommit": True, "prepare_threshold": prepare_threshold},
        min_size=2,
        max_size=max_connections,
        timeout=CHECKOUT_SECONDS,
        max_waiting=MAX_POOL_WAITERS,
        reconnect_timeout=RECONNECT_SECONDS,
        open=False,
        configure=configure,
        name="wepeople-ingest",
    )
