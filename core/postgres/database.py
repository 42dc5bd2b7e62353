"""A database, or one cell's schema in it, and work on it within bounds of time."""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import make_conninfo

from core.failure_log import one_line
from core.postgres.errors import (
    DatabaseUnusableError,
    NoAnswerError,
    is_temporary,
    temporary_failure,
)
from core.postgres.node import (
    CHECK_SECONDS,
    MAX_POOL_CONNECTIONS,
    RECONNECT_PAUSE_SECONDS,
    Node,
    Pool,
)
from core.postgres.search_path import use_schema
from core.postgres.sessions import (
    Connection,
    check_server,
    connect,
    cut_after,
    libpq_variables,
)

T = TypeVar("T")


class Database:
    """A PostgreSQL database with pools of connections. Open it with ``async with``.

    Connections are in autocommit mode. Call :meth:`discard_stale` when the server was away.
    """

    def __init__(self, conninfo: str, *, max_connections: int = MAX_POOL_CONNECTIONS) -> None:
        self._conninfo = conninfo
        self._schema: str | None = None
        self._node = Node(conninfo, max_connections)

    def in_schema(self, schema: str | None) -> Database:
        """The same database for the tables of a schema: one cell of several on a node.

        It shares the pools, which this one opens and closes. None: this one.
        """
        cell = copy.copy(self)
        cell._schema = schema
        return cell

    async def __aenter__(self) -> Database:
        await self._node.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._node.close()

    @property
    def has_refused_write(self) -> bool:
        """Whether a write failed, since it was last set to False, for a reason that may last."""
        return self._node.has_refused_write

    @has_refused_write.setter
    def has_refused_write(self, value: bool) -> None:
        self._node.has_refused_write = value

    @property
    def locked_writers(self) -> asyncio.Semaphore:
        """The turns of lock waits, of all journals of the node."""
        return self._node.locked_writers

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection from the pool, in autocommit mode.

        Raises :class:`IngestError` (``internal_error``, transient) if none can be had, if it is
        lost or if a statement waits for too long. Work that was not committed did not happen then.
        """
        try:
            async with self._lent(self._node.pool) as connection, connection:
                yield connection
        except psycopg.Error as error:
            if not is_temporary(error):
                raise
            raise temporary_failure(error) from error

    @contextlib.asynccontextmanager
    async def background_connection(self) -> AsyncIterator[Connection]:
        """As :meth:`connection`, for work that nobody waits for.

        All cells of the node have ``MAX_BACKGROUND_CONNECTIONS`` for it.
        """
        async with self._node.background, self.connection() as connection:
            yield connection

    @contextlib.asynccontextmanager
    async def ddl_connection(self) -> AsyncIterator[Connection]:
        """As :meth:`background_connection`, for statements that make, change or drop tables."""
        async with self.background_connection() as connection:
            yield connection

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """One transaction, committed when the block ends, rolled back when it raises."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    @contextlib.asynccontextmanager
    async def journal_connection(self, seconds: float) -> AsyncIterator[Connection]:
        """A connection from the journal's pool, in autocommit mode; raises psycopg's own errors.

        It waits for a lock no longer than ``JOURNAL_LOCK_MILLISECONDS``. A transaction that is open
        when the block ends is rolled back. The connection is cut if the block and the rollback
        take longer than ``seconds``.
        """
        async with self._lent(self._node.journal_pool) as connection:
            with cut_after(connection, seconds):
                try:
                    yield connection
                except BaseException as error:
                    await connection.__aexit__(type(error), error, error.__traceback__)
                    raise

    def _lent(self, pool: Pool) -> contextlib.AbstractAsyncContextManager[Connection]:
        return self._node.lent(pool, self._schema)

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
        finally:  # also if this is cancelled just when the work has failed
            task.cancel()
            self._node.abandon(task)
        raise NoAnswerError(f"the database did not answer within {seconds:g} s")

    def pool_stats(self) -> dict[str, dict[str, int]]:
        """The statistics of each pool of the node by its name, as psycopg_pool calls them."""
        pools = {"general": self._node.pool, "journal": self._node.journal_pool}
        return {name: pool.get_stats() for name, pool in pools.items()}

    async def discard_stale(self) -> None:
        """Wait until the server can be written to, and replace pooled connections that do not work.

        Without it a request would fail for each stale connection. Returns after ``CHECK_SECONDS``
        even if the server, or some connections, have not answered; their check goes on.
        """
        await asyncio.wait({self.check_soon()}, timeout=CHECK_SECONDS)

    def check_soon(self) -> asyncio.Task[None]:
        """Begin what :meth:`discard_stale` waits for, unless it goes on already."""
        return self._node.check_soon()

    async def locate(self) -> None:
        """Find out where the database is now, if that can change."""

    @property
    def conninfo(self) -> str:
        """The connection string of the server that it is on."""
        return self._conninfo

    async def dedicated(self, application_name: str) -> Connection:
        """A new connection outside the pools, in autocommit mode; the caller closes it."""
        db = await connect(make_conninfo(self._conninfo, application_name=application_name))
        await use_schema(db, self._schema)
        return db

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
