"""Sessions: their settings, and the bounds of time on their sockets."""

from __future__ import annotations

import socket
import time
from typing import Any

import psycopg
import pytest
from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo

from core.postgres import sessions
from core.postgres.errors import DatabaseUnusableError, is_connection_loss
from core.postgres.pipeline import Command, send
from core.postgres.sessions import cut_after, journal_conninfo, session_conninfo
from tests.support.tenant import make_tenant

pytestmark = pytest.mark.anyio

SLEEP = "SELECT pg_sleep(30)"


async def settings(db: AsyncConnection[Any], *names: str) -> list[str]:
    return [
        row[0]
        for name in names
        for row in await (await db.execute("SELECT current_setting(%s)", (name,))).fetchall()
    ]


async def test_a_session_has_the_settings_that_the_service_relies_on(database_url: str) -> None:
    async with await AsyncConnection.connect(session_conninfo(database_url)) as db:
        names = ("timezone", "synchronous_commit", "statement_timeout", "lock_timeout")
        assert await settings(db, *names) == ["UTC", "on", "10s", "3s"]
        assert await settings(db, "application_name") == ["wepeople-ingest"]


async def test_a_session_keeps_the_operator_s_own_settings_but_not_against_the_service_s(
    database_url: str,
) -> None:
    own = make_conninfo(
        database_url,
        options="-c work_mem=5MB -c synchronous_commit=off",
        application_name="the operator's own",
    )
    async with await AsyncConnection.connect(session_conninfo(own)) as db:
        assert await settings(db, "work_mem", "synchronous_commit") == ["5MB", "on"]
        assert await settings(db, "application_name") == ["the operator's own"]


async def test_a_session_of_the_journal_waits_less_for_locks(database_url: str) -> None:
    conninfo = journal_conninfo(session_conninfo(database_url))
    async with await AsyncConnection.connect(conninfo) as db:
        names = ("lock_timeout", "application_name", "timezone")
        assert await settings(db, *names) == ["200ms", "wepeople-ingest journal", "UTC"]


async def test_it_is_known_whether_the_server_logs_failed_statements(database_url: str) -> None:
    async with await AsyncConnection.connect(session_conninfo(database_url)) as db:
        for level, logs in (("error", True), ("panic", False), ("warning", True)):
            await db.execute(f"SET log_min_error_statement = {level}".encode())
            assert await sessions.logs_statements(db) == logs


async def test_an_old_server_is_refused() -> None:
    sessions.check_version(sessions.MIN_POSTGRES_VERSION)
    with pytest.raises(DatabaseUnusableError, match="PostgreSQL 14 is too old: version 15"):
        sessions.check_version(140_009)


async def test_the_send_buffer_is_widened(database_url: str) -> None:
    async with await AsyncConnection.connect(session_conninfo(database_url)) as db:
        with sessions._socket_of(db) as same_socket:
            before = same_socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
            await sessions.widen_send_buffer(db)
            after = same_socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        assert after >= before
        await db.execute("SELECT 1")  # the connection still has its own descriptor


async def test_a_connection_on_which_nothing_comes_is_cut(database_url: str) -> None:
    async with await (await make_tenant(database_url)).connect() as db:
        begun = time.monotonic()
        with pytest.raises(psycopg.OperationalError) as caught, cut_after(db, 0.2):
            await send(db, [Command(SLEEP)])
        assert time.monotonic() - begun < 15
        assert is_connection_loss(caught.value)
