"""The connection pool, transactions, and what PostgreSQL's errors mean to the core."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any, Final, TypeVar

import psycopg
from psycopg import AsyncConnection, errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import AsyncConnectionPool

from core.errors import IngestError, unavailable

Connection = AsyncConnection[Any]
T = TypeVar("T")

MIN_POSTGRES_VERSION: Final = 150_000
MAX_POOL_CONNECTIONS: Final = 8
CONNECT_SECONDS: Final = 5
CHECKOUT_SECONDS: Final = 3.0
STATEMENT_SECONDS: Final = 10
RECONNECT_PAUSE_SECONDS: Final = 0.2
# How long the pool tries to make a connection before it waits to be asked for one again. Its pauses
# double: the longer it went on by itself, the later it would notice that the database is back.
RECONNECT_SECONDS: Final = 3.0
CHECK_SECONDS: Final = 3.0
LOCK_SECONDS: Final = 3
# The journal's groups are of many organizations, which are not to wait for one's lock. Other
# replicas' groups last milliseconds; who holds a lock for longer is waited for apart.
JOURNAL_LOCK_MILLISECONDS: Final = 200
MAX_JOURNAL_CONNECTIONS: Final = 6  # two groups, three lanes, a question what became of one
# Of a group's rows: by default they wait for the event loop several times, and so does PostgreSQL.
SEND_BUFFER_BYTES: Final = 1_048_576
JOURNAL_SESSION_NAME: Final = "wepeople-ingest journal"
# Ends the transaction of a process that hangs, so that its locks do not hang the others; in the
# middle of a COPY it does not (core/upkeep.py).
IDLE_IN_TRANSACTION_SECONDS: Final = 15

_SESSION: Final = " ".join(
    f"-c {name}={value}"
    for name, value in {
        "timezone": "UTC",
        "client_encoding": "UTF8",
        "default_transaction_isolation": r"read\ committed",
        # What an acknowledgement means is not for a server's configuration to loosen.
        "synchronous_commit": "on",
        "statement_timeout": f"{STATEMENT_SECONDS}s",
        "lock_timeout": f"{LOCK_SECONDS}s",
        "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION_SECONDS}s",
    }.items()
)


class DatabaseUnusableError(Exception):
    """The database cannot be used as it is; the message says why and what to do."""


class NoAnswerError(psycopg.OperationalError):
    """The server said nothing in time, as if the connection were lost: it hangs, or the network."""


def session_conninfo(conninfo: str, application_name: str = "wepeople-ingest") -> str:
    """The connection string with the settings every session of the service relies on."""
    given = {name: str(value) for name, value in conninfo_to_dict(conninfo).items()}
    options = " ".join(part for part in (given.get("options"), _SESSION) if part)
    defaults = {
        "application_name": application_name,
        "connect_timeout": str(CONNECT_SECONDS),
        # Finds a dead peer within seconds instead of the two hours of the kernel's default.
        "keepalives_idle": "5",
        "keepalives_interval": "2",
        "keepalives_count": "3",
        "tcp_user_timeout": "10000",
    }
    return make_conninfo(conninfo, **{**defaults, **given, "options": options})


class Database:
    """Pools of connections to one PostgreSQL database.

    Open it with ``async with``. Connections are in autocommit mode and prepare statements at once;
    those of the journal, from a pool of their own, prepare none. :meth:`discard_stale` is to be
    called when the server was away.
    """

    def __init__(self, conninfo: str, *, max_connections: int = MAX_POOL_CONNECTIONS) -> None:
        self.conninfo = session_conninfo(conninfo)
        # Work that nobody waits for any more, until its connections have noticed.
        self._abandoned: set[asyncio.Task[Any]] = set()
        self._checking: asyncio.Task[None] | None = None
        self._pool = _pool(self.conninfo, max_connections)
        # Apart, so that its sessions have a lock_timeout of their own without a statement more, and
        # so that a flood of look-ups does not keep it waiting.
        self._journal_pool = _pool(
            make_conninfo(
                _with_option(self.conninfo, "lock_timeout", f"{JOURNAL_LOCK_MILLISECONDS}ms"),
                application_name=JOURNAL_SESSION_NAME,
            ),
            MAX_JOURNAL_CONNECTIONS,
            # It prepares its usual statements itself (core/statements.py), and psycopg, if it had
            # any of its own, would deallocate all of them at every rollback.
            prepare_threshold=None,
            configure=_widen,
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
            async with self._pool.connection() as connection:
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
        connection = await self._journal_pool.getconn()
        try:
            with cut_after(connection, seconds):
                async with connection:
                    yield connection
        finally:
            await self._journal_pool.putconn(connection)

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
                    _check_version(connection.info.server_version)
                return
            except psycopg.OperationalError as error:
                if asyncio.get_running_loop().time() > deadline:
                    raise DatabaseUnusableError(
                        f"cannot connect to PostgreSQL: {one_line(error)} "
                        "(check DATABASE_URL and that the server is running)"
                    ) from error
                await asyncio.sleep(RECONNECT_PAUSE_SECONDS)


async def logs_statements(db: Connection) -> bool:
    """Whether the server logs the text of statements that fail; the journal's hold their values."""
    cursor = await db.execute("SELECT current_setting('log_min_error_statement')")
    row = await cursor.fetchone()
    return row is None or row[0] not in ("fatal", "panic")


@contextlib.contextmanager
def cut_after(db: Connection, seconds: float) -> Iterator[None]:
    """Cut the connection if the block takes longer: what waits for it fails as if it were lost.

    For what must not wait for a server that hangs: psycopg gives it ten seconds to take note of a
    cancelled wait.
    """

    def cut() -> None:
        with (
            contextlib.suppress(OSError, psycopg.OperationalError),
            _socket_of(db) as same,
        ):
            same.shutdown(socket.SHUT_RDWR)

    timer = asyncio.get_running_loop().call_later(seconds, cut)
    try:
        yield
    finally:
        timer.cancel()


def _socket_of(db: Connection) -> socket.socket:
    """The connection's socket, under a descriptor of its own, which the caller closes."""
    return socket.socket(fileno=os.dup(db.pgconn.socket))


async def _widen(db: Connection) -> None:
    """Let a connection take what a whole COPY sends, as far as the system allows."""
    with _socket_of(db) as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)


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
        reconnect_timeout=RECONNECT_SECONDS,
        open=False,
        configure=configure,
        name="wepeople-ingest",
    )


def _with_option(conninfo: str, name: str, value: str) -> str:
    options = conninfo_to_dict(conninfo).get("options") or ""
    return make_conninfo(conninfo, options=f"{options} -c {name}={value}")  # the last one counts


def _check_version(version: int) -> None:
    if version < MIN_POSTGRES_VERSION:
        raise DatabaseUnusableError(
            f"PostgreSQL {version // 10_000} is too old: "
            f"version {MIN_POSTGRES_VERSION // 10_000} or later is needed"
        )


def is_connection_loss(error: BaseException) -> bool:
    """Whether the error says that the server or the way to it is gone, not that SQL was wrong."""
    if isinstance(error, errors.QueryCanceled | errors.LockNotAvailable):
        return False
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        # Class 08, 57P (shutdown, crash), 53 (no room for one more connection, a full disk) or no
        # SQLSTATE at all: libpq lost or never had it.
        state = error.sqlstate
        return state is None or state.startswith(("08", "57P", "53"))
    return False


def is_transient(error: BaseException) -> bool:
    """Whether the same transaction can succeed if it is simply run again."""
    return is_connection_loss(error) or isinstance(
        error,
        errors.SerializationFailure | errors.DeadlockDetected | errors.InvalidSqlStatementName,
    )


def is_passing(error: BaseException) -> bool:
    """Whether a client who sends the same again later can expect it to work."""
    return is_transient(error) or isinstance(error, errors.QueryCanceled | errors.LockNotAvailable)


def violated_constraint(error: psycopg.Error) -> str | None:
    """The name of the constraint that refused a row, if that is what happened."""
    return error.diag.constraint_name if isinstance(error, psycopg.IntegrityError) else None


def database_away() -> IngestError:
    """What a client is told while the database cannot be reached."""
    return unavailable("The service cannot reach its storage right now. Retry shortly.")


def passing(error: BaseException) -> IngestError:
    """What a client is told of an error that :func:`is_passing`."""
    if isinstance(error, errors.QueryCanceled | errors.LockNotAvailable):
        return unavailable("The service's storage is too busy. Nothing was written; retry shortly.")
    return database_away()


def one_line(error: BaseException) -> str:
    """An error's text fit for a log line."""
    return " ".join(str(error).split())
