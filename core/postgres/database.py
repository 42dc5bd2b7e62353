"""The connection pools of one database, and work on them within bounds of time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any, Final, TypeVar

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.errors import ReadOnlySqlTransaction
from psycopg_pool import AsyncConnectionPool

from core.failure_log import one_line
from core.postgres.errors import (
    DatabaseUnusableError,
    NoAnswerError,
    is_temporary,
    is_unwritable,
    temporary_failure,
)
from core.postgres.sessions import (
    JOURNAL_SETTINGS,
    SETTINGS,
    Connection,
    check_server,
    configure,
    connect,
    cut_after,
    is_writable,
    libpq_variables,
    session_conninfo,
    session_settings,
    widen_send_buffer,
)

T = TypeVar("T")

MAX_POOL_CONNECTIONS: Final = 8
MAX_POOL_WAITERS: Final = 256  # of each pool; one more is refused at once
CHECKOUT_SECONDS: Final = 3.0
RECONNECT_PAUSE_SECONDS: Final = 0.05  # between two tries whether the server is back
READ_ONLY_PAUSE_SECONDS: Final = 0.2  # the same, where each try costs a server that answers
# A pool that has lost a connection gives up after so long, and `Database` fills it again once the
# server is back. By itself it would pause for 1, 2, 4 seconds, and notice that much later.
RECONNECT_SECONDS: Final = 0.1
CHECK_SECONDS: Final = 3.0
MAX_JOURNAL_CONNECTIONS: Final = 6  # two queues, three lock waits, one commit status


class Database:
    """Pools of connections to one PostgreSQL database. Open it with ``async with``.

    ``has_refused_write``: since it was last set to False, a write failed for a reason that may last
    (:func:`core.postgres.errors.is_unwritable`).

    Connections are in autocommit mode. Call :meth:`discard_stale` when the server was away.
    """

    def __init__(self, conninfo: str, *, max_connections: int = MAX_POOL_CONNECTIONS) -> None:
        self._conninfo = conninfo
        self.has_refused_write = False
        # Work that nobody waits for lives on until its connections have noticed.
        self._abandoned: set[asyncio.Task[Any]] = set()
        self._checking: asyncio.Task[None] | None = None
        self._pool = _pool(conninfo, SETTINGS, max_connections, self._on_given_up)
        # The journal has a pool of its own. Its sessions have another lock_timeout, without another
        # statement each time, and a flood of look-ups does not keep it waiting.
        self._journal_pool = _pool(
            conninfo,
            JOURNAL_SETTINGS,
            MAX_JOURNAL_CONNECTIONS,
            self._on_given_up,
            # The journal prepares its statements itself (core/postgres/pipeline.py). If psycopg had
            # some of its own, it would deallocate all of them at every rollback.
            prepare_threshold=None,
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
        """A connection from the pool, in autocommit mode.

        Raises :class:`IngestError` (``internal_error``, transient) if none can be had, if it is
        lost or if a statement waits for too long. Work that was not committed did not happen then.
        """
        try:
            async with self._lent(self._pool) as connection, connection:
                yield connection
        except psycopg.Error as error:
            if not is_temporary(error):
                raise
            raise temporary_failure(error) from error

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """One transaction, committed when the block ends, rolled back when it raises."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    @contextlib.asynccontextmanager
    async def journal_connection(self, seconds: float) -> AsyncIterator[Connection]:
        """A connection from the journal's pool, in autocommit mode; raises psycopg's own errors.

        It waits for a lock no longer than ``JOURNAL_LOCK_MILLISECONDS``. A transaction that is open
        when the block raises is rolled back. The connection is cut if the block and the rollback
        take longer than ``seconds``.
        """
        async with self._lent(self._journal_pool) as connection:
            with cut_after(connection, seconds):
                async with connection:
                    yield connection

    @contextlib.asynccontextmanager
    async def _lent(self, pool: _Pool) -> AsyncIterator[Connection]:
        """A connection of the pool, which gets it back even if the caller is cancelled by then.

        A task that is cancelled inside of ``putconn`` would lose the connection for good.
        """
        connection = await pool.getconn()
        try:
            yield connection
        except psycopg.Error as error:
            self.has_refused_write = self.has_refused_write or is_unwritable(error)
            if isinstance(error, ReadOnlySqlTransaction):
                # It may stay so: its server was the primary, or the session began while nobody
                # might write. The pool makes another.
                await connection.close()
            raise
        finally:
            giving_back = asyncio.create_task(pool.putconn(connection))
            self._abandoned.add(giving_back)
            giving_back.add_done_callback(self._end_abandoned)
            await asyncio.shield(giving_back)

    async def within(self, seconds: float, work: Coroutine[Any, Any, T]) -> T:
        """The result of work with the database; :class:`NoAnswerError` if it takes longer.

        The work is cancelled then, but its end is not waited for: psycopg gives a server that hangs
        ten seconds to take note.
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
                task.add_done_callback(self._end_abandoned)
        raise NoAnswerError(f"the database did not answer within {seconds:g} s")

    def pool_stats(self) -> dict[str, dict[str, int]]:
        """The statistics of each pool by its name, as psycopg_pool calls them."""
        return {"general": self._pool.get_stats(), "journal": self._journal_pool.get_stats()}

    def _end_abandoned(self, task: asyncio.Task[Any]) -> None:
        self._abandoned.discard(task)
        if not task.cancelled():
            task.exception()  # asyncio would log it otherwise

    async def discard_stale(self) -> None:
        """Wait until the server can be written to, and replace pooled connections that do not work.

        Without it a request would fail for each stale connection. Returns after ``CHECK_SECONDS``
        even if the server, or some connections, have not answered; their check goes on.
        """
        # Never cancelled here: the pool would lose the connections that it is checking.
        await asyncio.wait({self.check_soon()}, timeout=CHECK_SECONDS)

    def _on_given_up(self, _pool: object) -> None:
        self.check_soon()  # fills the pools again once the server is back

    def check_soon(self) -> asyncio.Task[None]:
        """Begin what :meth:`discard_stale` waits for, unless it goes on already."""
        if self._checking is None or self._checking.done():
            self._checking = asyncio.create_task(self._check())
        return self._checking

    async def _check(self) -> None:
        await self._until_writable()
        for pool in (self._pool, self._journal_pool):
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

    async def dedicated(self, application_name: str) -> Connection:
        """A new connection outside the pools, in autocommit mode; the caller closes it."""
        return await connect(make_conninfo(self._conninfo, application_name=application_name))

    async def wait_until_reachable(self, seconds: float) -> None:
        """Return once the database answers.

        Raises :class:`DatabaseUnusableError` if it has not within ``seconds``, or if it answers
        and cannot be used.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            try:
                async with (
                    await connect(self._conninfo) as db,
                    await connect(self._conninfo) as other,
                ):
                    await check_server(db, other)
                return
            except psycopg.Error as error:
                is_final = not isinstance(error, psycopg.OperationalError)
                if is_final or asyncio.get_running_loop().time() > deadline:
                    raise DatabaseUnusableError(
                        f"cannot connect to PostgreSQL: {one_line(error)} "
                        f"(check {_sources()} and that the server is running)"
                    ) from error
                await asyncio.sleep(RECONNECT_PAUSE_SECONDS)


def _sources() -> str:
    """The variables of the environment that have a say in how the database is reached."""
    return " and ".join(["DATABASE_URL", *libpq_variables()])


class _Pool(AsyncConnectionPool[Connection]):
    """A pool that looks whether its connections can write when it checks them."""

    @staticmethod
    async def check_connection(conn: Connection) -> None:
        """Close the connection and raise an error if it works no more, or cannot write."""
        if not await is_writable(conn):
            await conn.close()
            raise NoAnswerError("the session is read-only")


def _pool(
    conninfo: str,
    settings: Mapping[str, str],
    max_connections: int,
    on_given_up: Callable[[object], None],
    *,
    prepare_threshold: int | None = 1,
) -> _Pool:
    """A pool whose sessions have the settings; it is opened later."""
    settings = session_settings(conninfo, settings)

    async def prepare(db: Connection) -> None:
        await configure(db, settings)
        await widen_send_buffer(db)

    return _Pool(
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
