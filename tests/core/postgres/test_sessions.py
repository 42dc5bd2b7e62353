"""Sessions: their settings, and the bounds of time on their sockets."""

from __future__ import annotations

import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import psycopg
import pytest
from psycopg import AsyncConnection, sql
from psycopg.conninfo import make_conninfo

from core.postgres import sessions
from core.postgres.database import Database
from core.postgres.errors import DatabaseUnusableError, is_connection_loss
from core.postgres.pipeline import Command, send
from core.postgres.sessions import (
    JOURNAL_SETTINGS,
    SETTINGS,
    configure,
    connect,
    cut_after,
    is_writable,
)
from tests.support.databases import new_database
from tests.support.frozen_session import frozen_session
from tests.support.tenant import make_tenant

pytestmark = pytest.mark.anyio

SLEEP = "SELECT pg_sleep(30)"
# Of each setting that the service relies on, a value that would break it.
HOSTILE: Final = {
    "client_encoding": "LATIN1",
    "standard_conforming_strings": "off",
    "DateStyle": "German, DMY",
    "IntervalStyle": "iso_8601",
    "TimeZone": "Asia/Tokyo",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "default_transaction_isolation": "serializable",
    "synchronous_commit": "off",
    "statement_timeout": "5s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "5s",
    "idle_session_timeout": "1h",
}


async def settings(db: AsyncConnection[Any], *names: str) -> list[str]:
    return [
        row[0]
        for name in names
        for row in await (await db.execute("SELECT current_setting(%s)", (name,))).fetchall()
    ]


async def test_a_session_has_the_settings_that_the_service_relies_on(database_url: str) -> None:
    async with await connect(database_url) as db:
        names = ("TimeZone", "synchronous_commit", "statement_timeout", "lock_timeout")
        assert await settings(db, *names) == ["UTC", "on", "10s", "3s"]
        assert await settings(db, "application_name") == ["wepeople-ingest"]


async def test_no_setting_of_the_database_s_role_or_environment_comes_in(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert HOSTILE.keys() == SETTINGS.keys()
    with psycopg.connect(database_url, autocommit=True) as admin:
        for name, value in HOSTILE.items():
            statement = sql.SQL("ALTER DATABASE {} SET {} = {}")
            parts = sql.Identifier(admin.info.dbname), sql.Identifier(name), sql.Literal(value)
            admin.execute(statement.format(*parts))
    monkeypatch.setenv("PGCLIENTENCODING", "no such encoding")
    monkeypatch.setenv("PGTZ", "Asia/Tokyo")
    async with await connect(make_conninfo(database_url, client_encoding="LATIN1")) as db:
        assert await settings(db, *SETTINGS) == list(SETTINGS.values())
        assert db.info.encoding == "utf-8"
    async with Database(database_url) as database:
        async with database.connection() as db:
            assert await settings(db, *SETTINGS) == list(SETTINGS.values())
        async with database.journal_connection(60) as db:
            assert await settings(db, *JOURNAL_SETTINGS) == list(JOURNAL_SETTINGS.values())


@pytest.mark.parametrize("where", ["DATABASE_URL", "PGOPTIONS"])
async def test_a_session_keeps_the_operator_s_own_settings_but_not_against_the_service_s(
    database_url: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = r'-c work_mem=5MB --search-path="a\ b",public  -csynchronous_commit=off'
    own = make_conninfo(database_url, application_name="the operator's own")
    if where == "PGOPTIONS":
        monkeypatch.setenv("PGOPTIONS", given)
    else:
        own = make_conninfo(own, options=given)
    async with await connect(own) as db:
        names = ("work_mem", "search_path", "synchronous_commit", "application_name")
        assert await settings(db, *names) == ["5MB", '"a b",public', "on", "the operator's own"]
        assert db.info.options == ""  # a pooler would refuse or drop them


async def test_options_that_are_no_settings_are_left_to_the_server(database_url: str) -> None:
    async with await connect(make_conninfo(database_url, options="-fs -c work_mem=5MB")) as db:
        assert await settings(db, "enable_seqscan", "work_mem") == ["off", "5MB"]


async def test_a_setting_that_cannot_be_had_is_named(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for options in ("-c max_connections=9", "-c work_mem=much", "-c no_such=1"):
        with pytest.raises(DatabaseUnusableError, match=options[3:].partition("=")[0]):
            await connect(make_conninfo(database_url, options=options))
    async with await connect(database_url) as db:
        # As a pooler does that takes a setting and drops it.
        monkeypatch.setattr(sessions, "_SET", "SELECT %s")
        await db.execute("SET bytea_output = 'escape'")
        with pytest.raises(DatabaseUnusableError, match=r"bytea_output .* 'hex', .* 'escape'"):
            await configure(db)


async def test_the_service_does_not_wait_for_a_setting_that_cannot_be_had(
    database_url: str,
) -> None:
    database = Database(make_conninfo(database_url, options="-c max_connections=9"))
    with pytest.raises(DatabaseUnusableError, match="max_connections"):
        await database.wait_until_reachable(60)


async def test_it_is_known_whether_the_server_logs_failed_statements(database_url: str) -> None:
    async with await connect(database_url) as db:
        for level, logs in (("error", True), ("panic", False), ("warning", True)):
            await db.execute(f"SET log_min_error_statement = {level}".encode())
            assert await sessions.logs_statements(db) == logs


async def test_an_old_server_is_refused() -> None:
    sessions.check_version(sessions.MIN_POSTGRES_VERSION)
    with pytest.raises(DatabaseUnusableError, match="PostgreSQL 14 is too old: version 15"):
        sessions.check_version(140_009)


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
async def test_a_database_of_another_encoding_is_refused(postgres: str, encoding: str) -> None:
    name = f"wepeople_{encoding.lower()}"
    said = f"server_encoding .* {encoding}, .* UTF8"
    with (
        new_database(postgres, name, encoding=encoding) as url,
        pytest.raises(DatabaseUnusableError, match=said),
    ):
        await Database(url).wait_until_reachable(60)


async def test_the_send_buffer_is_widened(database_url: str) -> None:
    async with await connect(database_url) as db:
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


@pytest.mark.parametrize("ask", [configure, is_writable])
async def test_a_session_is_not_made_or_checked_without_an_end(
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    ask: Callable[[AsyncConnection[Any]], Awaitable[object]],
) -> None:
    """As before a pooler that is paused."""
    monkeypatch.setattr(sessions, "SESSION_SECONDS", 0.2)
    async with frozen_session(database_url) as db:
        await ask(db)
