"""Statements sent together, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from psycopg import errors
from psycopg.pq import TransactionStatus

from core.postgres.database import Database
from core.postgres.errors import is_transient
from core.postgres.pipeline import BEGIN, COMMIT, Command, CopyCommand, Statement, as_records, send
from tests.support.tenant import make_tenant

pytestmark = pytest.mark.anyio

ECHO = Statement("echo", "text, text", "SELECT $1, $2 UNION ALL SELECT $2, NULL")
SLEEP = "SELECT pg_sleep(30)"
DIVIDE = Statement("divide", "integer", "SELECT 1 / $1")


@pytest.fixture
def database_url(module_database: str) -> str:
    return module_database


async def test_each_call_has_its_own_answer(database_url: str) -> None:
    async with await (await make_tenant(database_url)).connect() as db:
        first, second = Command(ECHO, "a", "b"), Command(ECHO, "c", "d")
        await send(db, [first, None, second])
        assert first.rows == [["a", "b"], ["b", None]]
        assert second.rows == [["c", "d"], ["d", None]]
        write = Command("CREATE TEMPORARY TABLE numbers AS SELECT generate_series(1, 3)")
        await send(db, [write])
        assert (write.tag, write.rows) == ("SELECT 3", [])


@pytest.mark.parametrize(
    "text",
    [
        "'",
        "''",
        "\\",
        "\\'",
        "'; DROP TABLE events; --",
        "$1",
        "Zoë \N{GRINNING FACE}",
        "\n",
        "x" * 99_999,
    ],
)
async def test_arguments_arrive_as_they_are(database_url: str, text: str) -> None:
    async with await (await make_tenant(database_url)).connect() as db:
        call = Command(ECHO, text, as_records(["a", "b"], [(text, b"\0\xff")]))
        await send(db, [call])
        assert call.rows[0][0] == text
        cursor = await db.execute(
            "SELECT a, decode(b, 'base64') FROM json_to_recordset(%s) AS r (a text, b text)",
            (call.rows[0][1],),
        )
        assert await cursor.fetchone() == (text, b"\0\xff")


async def test_what_comes_after_a_failure_is_not_done(database_url: str) -> None:
    async with await (await make_tenant(database_url)).connect() as db:
        before, failing, after = (
            Command(ECHO, "a", "b"),
            Command(DIVIDE, "0"),
            Command(ECHO, "c", "d"),
        )
        with pytest.raises(errors.DivisionByZero):
            await send(db, [Command(BEGIN), before, failing, after, Command(COMMIT)])
        assert (before.done, failing.done, after.done) == (True, False, False)
        assert db.pgconn.transaction_status == TransactionStatus.INERROR
        commit = Command(COMMIT)
        await send(db, [commit])
        assert commit.tag == "ROLLBACK"
        await send(db, [after])
        assert after.done


async def test_statements_that_were_deallocated_are_prepared_anew(database_url: str) -> None:
    async with await (await make_tenant(database_url)).connect() as db:
        await send(db, [Command(ECHO, "a", "b")])
        await db.execute("DEALLOCATE ALL")
        with pytest.raises(errors.InvalidSqlStatementName) as caught:
            await send(db, [Command(ECHO, "a", "b")])
        assert is_transient(caught.value)
        call = Command(ECHO, "a", "b")
        await send(db, [call])
        assert call.rows


async def test_a_connection_whose_answers_nobody_saw_is_not_used_again(database_url: str) -> None:
    await make_tenant(database_url)

    async def write(database: Database, calls: list[Command]) -> None:
        async with database.journal_connection(60) as db:
            await send(db, calls)

    async with Database(database_url) as database:
        cancelled = asyncio.create_task(write(database, [Command(ECHO, "a", "b"), Command(SLEEP)]))
        await asyncio.sleep(0.2)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        for _ in range(3):  # the pool has two: each of them would say that it knows it already
            await write(database, [Command(BEGIN), Command(ECHO, "a", "b"), Command(COMMIT)])


async def test_a_copy_is_begun_with_other_calls_and_may_have_no_rows(database_url: str) -> None:
    async with await (await make_tenant(database_url)).connect() as db:
        await send(db, [Command("CREATE TEMPORARY TABLE texts (text text)")])
        for data in (b"", b"one\ntwo\n", (b"x" * 999 + b"\n") * 2_000):
            copy = CopyCommand("COPY texts FROM STDIN")
            await send(db, [Command(BEGIN), Command(ECHO, "a", "b"), copy])
            await copy.write(db, data)
            await send(db, [Command(COMMIT)])
        count = Command("SELECT count(*) FROM texts")
        await send(db, [count])
        assert count.rows == [["2002"]]


async def test_what_follows_a_copy_runs_when_it_has_ended(database_url: str) -> None:
    async with await (await make_tenant(database_url)).connect() as db:
        await send(db, [Command("CREATE TEMPORARY TABLE texts (text text)")])
        before, copy = Command(ECHO, "a", "b"), CopyCommand("COPY texts FROM STDIN")
        count, commit = Command("SELECT count(*) FROM texts"), Command(COMMIT)
        did: list[str] = []
        await send(
            db, [Command(BEGIN), before, copy, count, commit], meanwhile=lambda: did.append("this")
        )
        assert did == ["this"]
        assert (before.done, count.done, commit.done) == (True, False, False)
        assert db.pgconn.transaction_status == TransactionStatus.ACTIVE
        await copy.write(db, b"one\ntwo\n")
        assert (copy.tag, count.rows, commit.tag) == ("COPY 2", [["2"]], COMMIT)
        assert db.pgconn.transaction_status == TransactionStatus.IDLE


async def test_what_follows_a_copy_may_fail(database_url: str) -> None:
    async with await (await make_tenant(database_url)).connect() as db:
        await send(db, [Command("CREATE TEMPORARY TABLE texts (text text)")])
        copy, failing, commit = (
            CopyCommand("COPY texts FROM STDIN"),
            Command(DIVIDE, "0"),
            Command(COMMIT),
        )
        await send(db, [Command(BEGIN), copy, failing, commit])
        with pytest.raises(errors.DivisionByZero):
            await copy.write(db, b"one\n")
        assert (copy.tag, failing.done, commit.done) == ("COPY 1", False, False)
        refused = [type(command.error) for command in (copy, failing, commit)]
        assert refused == [type(None), errors.DivisionByZero, type(None)]
        assert db.pgconn.transaction_status == TransactionStatus.INERROR


async def test_a_copy_that_is_abandoned_ends_its_transaction(database_url: str) -> None:
    async with await (await make_tenant(database_url)).connect() as db:
        await send(db, [Command("CREATE TEMPORARY TABLE texts (text text)")])
        copy, commit = CopyCommand("COPY texts FROM STDIN"), Command(COMMIT)
        await send(db, [Command(BEGIN), Command("INSERT INTO texts VALUES ('one')"), copy, commit])
        await copy.abandon(db, "of a test")
        assert not commit.done
        assert db.pgconn.transaction_status == TransactionStatus.INERROR
        await db.rollback()
        count = Command("SELECT count(*) FROM texts")
        await send(db, [count])
        assert count.rows == [["0"]]


async def test_a_copy_that_is_cut_short_is_not_committed(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    async with await tenant.connect() as db:
        await tenant.rows("CREATE TABLE texts (text text)")
        copy = CopyCommand("COPY texts FROM STDIN")
        await send(db, [Command(BEGIN), copy, Command(COMMIT)])
        backend = db.info.backend_pid
        os.kill(backend, signal.SIGSTOP)
        try:
            writing = asyncio.create_task(copy.write(db, (b"x" * 999 + b"\n") * 20_000))
            await asyncio.sleep(0.2)
            writing.cancel()
            await asyncio.sleep(0.2)
        finally:
            os.kill(backend, signal.SIGCONT)
        with pytest.raises(asyncio.CancelledError):
            await writing
        assert db.closed
        for _ in range(1_000):
            if not await tenant.rows("SELECT pid FROM pg_stat_activity WHERE pid = %s", backend):
                break
            await asyncio.sleep(0.01)
        assert await tenant.rows("SELECT text FROM texts") == []


async def test_a_copy_of_garbage_fails(database_url: str) -> None:
    async with await (await make_tenant(database_url)).connect() as db:
        await send(db, [Command("CREATE TEMPORARY TABLE numbers (number integer)")])
        copy = CopyCommand("COPY numbers FROM STDIN")
        await send(db, [copy])
        with pytest.raises(errors.InvalidTextRepresentation):
            await copy.write(db, b"no number\n")
        await send(db, [Command(ECHO, "a", "b")])
