"""Sessions: the settings every connection of the service relies on, and its socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
from collections.abc import Iterator, Mapping
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from core.failure_log import one_line
from core.postgres.errors import DatabaseUnusableError, is_temporary

Connection = AsyncConnection[Any]
MIN_POSTGRES_VERSION: Final = 150_000
SERVER_ENCODING: Final = "UTF8"
CONNECT_SECONDS: Final = 5
# To make or check a session: where a pooler is paused, no time-out of the server's applies.
SESSION_SECONDS: Final = 5.0
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
# All that the code relies on, as PostgreSQL shows it.
SETTINGS: Final[Mapping[str, str]] = {
    # How values are written and read.
    "client_encoding": SERVER_ENCODING,
    "standard_conforming_strings": "on",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    # What a transaction promises: no server's configuration may loosen an acknowledgement.
    "default_transaction_isolation": "read committed",
    "synchronous_commit": "on",
    # How long it may take.
    "statement_timeout": f"{STATEMENT_SECONDS}s",
    "lock_timeout": f"{LOCK_SECONDS}s",
    "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION_SECONDS}s",
    "idle_session_timeout": "0",
}
JOURNAL_SETTINGS: Final[Mapping[str, str]] = {
    **SETTINGS,
    "lock_timeout": f"{JOURNAL_LOCK_MILLISECONDS}ms",
    "application_name": JOURNAL_SESSION_NAME,  # core/maintenance.py finds the sessions by it
}

_SET: Final = """
SELECT pg_catalog.set_config(key, value, false) FROM pg_catalog.json_each_text(%s::json)
"""
_READ: Final = """
SELECT key, value, pg_catalog.current_setting(key) FROM pg_catalog.json_each_text(%s::json)
"""
_BARRIER: Final = "SELECT pg_catalog.pg_logical_emit_message(true, 'wepeople-ingest', '')"
_BACKEND: Final = "SELECT pg_catalog.pg_backend_pid(), pg_catalog.pg_postmaster_start_time()"
_IS_WRITABLE: Final = "SELECT pg_catalog.current_setting('transaction_read_only') = 'off'"

# A word of an `options` string, in which a backslash stands before a space; and a setting in it.
_OPTION: Final = re.compile(r"(?:\\.|[^\s\\])+", re.DOTALL)
_ASSIGNMENT: Final = re.compile(r"(?:-c|--)([A-Za-z_][\w.-]*)=(.*)\Z", re.DOTALL)


async def connect(conninfo: str) -> Connection:
    """A new session in autocommit mode, with the settings of the operator and the service's.

    Raises :class:`DatabaseUnusableError` if a setting cannot be had, and psycopg's errors.
    """
    db = await AsyncConnection.connect(session_conninfo(conninfo), autocommit=True)
    try:
        await configure(db, session_settings(conninfo))
    except BaseException:
        await db.close()
        raise
    return db


def session_conninfo(conninfo: str) -> str:
    """The connection string that a session is made with, before it is configured.

    The operator's own parameters are kept, but for the encoding, and for settings in ``options``.
    Those are set by SQL (:func:`session_settings`): a pooler refuses them here, or drops them.
    """
    given = {name: str(value) for name, value in conninfo_to_dict(conninfo).items()}
    if _settings_in(_options(given)):
        given["options"] = ""  # so that libpq does not take those of PGOPTIONS
    defaults = {
        "application_name": "wepeople-ingest",
        "connect_timeout": str(CONNECT_SECONDS),
        # Finds a dead peer within seconds instead of the two hours of the kernel's default.
        "keepalives_idle": "5",
        "keepalives_interval": "2",
        "keepalives_count": "3",
        "tcp_user_timeout": "10000",
    }
    # PGCLIENTENCODING may name one that the server does not know.
    return make_conninfo(**{**defaults, **given, "client_encoding": SERVER_ENCODING})


def session_settings(conninfo: str, settings: Mapping[str, str] = SETTINGS) -> Mapping[str, str]:
    """The settings of a session: those in the operator's ``options``, overruled by the others."""
    given = {name: str(value) for name, value in conninfo_to_dict(conninfo).items()}
    return {**(_settings_in(_options(given)) or {}), **settings}


def _options(given: Mapping[str, str]) -> str:
    """The ``options`` of a connection string, or those of libpq's variable if it has none."""
    return given.get("options", os.environ.get("PGOPTIONS", ""))


def _settings_in(options: str) -> dict[str, str] | None:
    """The settings in an ``options`` string; None if there is anything else in it."""
    words = [re.sub(r"\\(.)", r"\1", word) for word in _OPTION.findall(options)]
    found = {}
    while words:
        word = words.pop(0)
        if word == "-c" and words:
            word += words.pop(0)
        if (match := _ASSIGNMENT.match(word)) is None:
            return None
        found[match[1].replace("-", "_")] = match[2]
    return found


async def configure(db: Connection, settings: Mapping[str, str] = SETTINGS) -> None:
    """Give a session its settings by SQL, and read back those that the service relies on.

    Raises :class:`DatabaseUnusableError`, which names the setting, if one cannot be had. The
    connection is lost if that takes longer than ``SESSION_SECONDS``.
    """
    try:
        with cut_after(db, SESSION_SECONDS):
            await db.execute(_SET, (json.dumps(settings),), prepare=False)
            needed = {name: value for name, value in settings.items() if name in JOURNAL_SETTINGS}
            cursor = await db.execute(_READ, (json.dumps(needed),), prepare=False)
            rows = await cursor.fetchall()
    except psycopg.Error as error:
        if is_temporary(error):
            raise
        raise DatabaseUnusableError(
            "PostgreSQL refuses a setting of the service's sessions: "
            f"{error.diag.message_primary or one_line(error)}"
        ) from error
    for name, value, found in rows:
        if found != value:
            raise DatabaseUnusableError(
                f"the setting {name} of the service's sessions has to be {value!r}, and PostgreSQL "
                f"or a pooler before it makes it {found!r}"
            )


@contextlib.contextmanager
def without_warnings(db: Connection) -> Iterator[None]:
    """Fail as if the connection were lost if PostgreSQL warns in the block.

    It answers a COMMIT as usual, but for a warning, if it was told to wait for its synchronous
    standby no longer: a failover could lose what it has committed.
    """
    warnings: list[str] = []

    def note(diagnosis: psycopg.errors.Diagnostic) -> None:
        if diagnosis.severity_nonlocalized == "WARNING":
            warnings.append(diagnosis.message_primary or "")

    db.add_notice_handler(note)
    try:
        yield
    finally:
        db.remove_notice_handler(note)
    if warnings:
        raise psycopg.OperationalError(f"PostgreSQL warned: {warnings[0]}")


async def confirm_commit(db: Connection) -> None:
    """Return once the synchronous standbys, if there are some, have all that was committed.

    Raises as if the connection were lost if PostgreSQL gave up waiting for them.
    """
    with without_warnings(db):
        await db.execute(_BARRIER)


async def is_writable(db: Connection) -> bool:
    """Whether the session may write; it is lost after ``SESSION_SECONDS`` without an answer."""
    with cut_after(db, SESSION_SECONDS):
        row = await (await db.execute(_IS_WRITABLE, prepare=False)).fetchone()
    return row is not None and bool(row[0])


async def check_server(db: Connection, other: Connection) -> None:
    """Look at a server, and at the way to it, by two sessions that are open at once.

    Raises :class:`DatabaseUnusableError` if they cannot be used.
    """
    check_version(db.info.server_version)
    check_encoding(db.info.parameter_status("server_encoding"))
    if await _backend(db) == await _backend(other):
        raise DatabaseUnusableError(
            "a pooler shares one connection to PostgreSQL among several sessions: connect "
            "directly, or set it to session mode (pool_mode = session in PgBouncer)"
        )


async def _backend(db: Connection) -> tuple[object, ...] | None:
    return await (await db.execute(_BACKEND, prepare=False)).fetchone()


def check_version(version: int) -> None:
    """Raises :class:`DatabaseUnusableError` for a PostgreSQL older than the service needs."""
    if version < MIN_POSTGRES_VERSION:
        raise DatabaseUnusableError(
            f"PostgreSQL {version // 10_000} is too old: "
            f"version {MIN_POSTGRES_VERSION // 10_000} or later is needed"
        )


def check_encoding(server_encoding: str | None) -> None:
    """Raises :class:`DatabaseUnusableError` for a database that cannot hold every character."""
    if server_encoding != SERVER_ENCODING:
        raise DatabaseUnusableError(
            f"the server_encoding of the database is {server_encoding}, and has to be "
            f"{SERVER_ENCODING}: make a new one with CREATE DATABASE … TEMPLATE template0 "
            f"ENCODING '{SERVER_ENCODING}'"
        )


def libpq_variables() -> list[str]:
    """The variables of the environment that libpq heeds, of those that are set."""
    known = {
        option.envvar.decode() for option in psycopg.pq.Conninfo.get_defaults() if option.envvar
    }
    # These are no parameters of a connection string, but name files or settings of the session.
    known |= {"PGSERVICEFILE", "PGSYSCONFDIR", "PGDATESTYLE", "PGTZ", "PGGEQO"}
    return sorted(known & os.environ.keys())


def forget_libpq_variables() -> None:
    """Have this process and its children connect by their connection strings alone.

    Not every variable gives way to a connection string: PGSERVICE, PGTZ and others do not.
    """
    for name in libpq_variables():
        del os.environ[name]


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
