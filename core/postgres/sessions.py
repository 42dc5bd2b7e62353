"""Sessions: the settings every connection of the service relies on, and its socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from core.postgres.errors import DatabaseUnusableError

Connection = AsyncConnection[Any]
MIN_POSTGRES_VERSION: Final = 150_000
CONNECT_SECONDS: Final = 5
STATEMENT_SECONDS: Final = 10
LOCK_SECONDS: Final = 3
# A transaction of the journal has requests of many organizations, which must not wait for one's
# lock. Transactions of other replicas last milliseconds; a longer lock is waited for apart
# (core/journal/lock_waits.py).
JOURNAL_LOCK_MILLISECONDS: Final = 200
# Room for the rows of a transaction: with the default buffer they wait for the event loop several
# times, and so does PostgreSQL.
SEND_BUFFER_BYTES: Final = 1_048_576
JOURNAL_SESSION_NAME: Final = "wepeople-ingest journal"
# Ends the transaction of a process that hangs, so that its locks do not hang the others. In the
# middle of a COPY it does not: core/maintenance.py does.
IDLE_IN_TRANSACTION_SECONDS: Final = 15
_SESSION: Final = " ".join(
    f"-c {name}={value}"
    for name, value in {
        "timezone": "UTC",
        "client_encoding": "UTF8",
        "default_transaction_isolation": r"read\ committed",
        # No server's configuration may loosen the meaning of an acknowledgement.
        "synchronous_commit": "on",
        "statement_timeout": f"{STATEMENT_SECONDS}s",
        "lock_timeout": f"{LOCK_SECONDS}s",
        "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION_SECONDS}s",
    }.items()
)


def session_conninfo(conninfo: str, application_name: str = "wepeople-ingest") -> str:
    """The connection string with the settings that every session of the service relies on.

    Other settings in ``conninfo`` are kept.
    """
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


def journal_conninfo(conninfo: str) -> str:
    """The connection string of the journal's sessions, which wait less for locks than others."""
    lock_timeout = f"-c lock_timeout={JOURNAL_LOCK_MILLISECONDS}ms"
    return make_conninfo(
        conninfo,
        # Of two values of a setting the last one counts.
        options=f"{conninfo_to_dict(conninfo).get('options') or ''} {lock_timeout}",
        application_name=JOURNAL_SESSION_NAME,
    )


def check_version(version: int) -> None:
    """Raises :class:`DatabaseUnusableError` for a PostgreSQL older than the service needs."""
    if version < MIN_POSTGRES_VERSION:
        raise DatabaseUnusableError(
            f"PostgreSQL {version // 10_000} is too old: "
            f"version {MIN_POSTGRES_VERSION // 10_000} or later is needed"
        )


async def logs_statements(db: Connection) -> bool:
    """Whether the server logs the text of failed statements; the journal's hold clients' data."""
    cursor = await db.execute("SELECT current_setting('log_min_error_statement')")
    row = await cursor.fetchone()
    return row is None or row[0] not in ("fatal", "panic")


async def widen_send_buffer(db: Connection) -> None:
    """Give the socket room for ``SEND_BUFFER_BYTES``, or as much as the system allows."""
    with _socket_of(db) as same_socket:
        same_socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)


@contextlib.contextmanager
def cut_after(db: Connection, seconds: float) -> Iterator[None]:
    """Cut the connection if the block takes longer; waits for it fail as if it were lost.

    Cancelling the block would not do: psycopg gives a server that hangs ten seconds to take note of
    a cancelled wait.
    """

    def cut() -> None:
        with (
            contextlib.suppress(OSError, psycopg.OperationalError),
            _socket_of(db) as same_socket,
        ):
            same_socket.shutdown(socket.SHUT_RDWR)

    timer = asyncio.get_running_loop().call_later(seconds, cut)
    try:
        yield
    finally:
        timer.cancel()


def _socket_of(db: Connection) -> socket.socket:
    """The connection's socket, under a descriptor of its own, which the caller closes."""
    return socket.socket(fileno=os.dup(db.pgconn.socket))
