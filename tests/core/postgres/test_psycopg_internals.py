"""The internals of psycopg that core/postgres/psycopg_internals.py relies on, each by its name.

If one of these tests fails after an upgrade, psycopg has changed: look at that file before the
ceiling in pyproject.toml is raised.
"""

from __future__ import annotations

import asyncio
import inspect
import re
import tomllib
from collections.abc import AsyncIterator, Generator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import AsyncConnection, errors, generators
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.waiting import Ready, Wait

from core.postgres.psycopg_internals import end_copy, error_of, run_query
from tests.support.database import connect

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[3]


@pytest.fixture
async def db(module_database: str) -> AsyncIterator[AsyncConnection[Any]]:
    async with await connect(module_database) as connection:
        yield connection


async def drive(generator: Generator[Any, Any, Any], db: AsyncConnection[Any]) -> Any:
    """The result of one of psycopg's generators, waited for by the test alone."""
    loop = asyncio.get_running_loop()
    states: list[object] = []
    try:
        state = next(generator)
        while True:
            states.append(state)
            ready = asyncio.Event()
            add, remove, answer = (
                (loop.add_writer, loop.remove_writer, Ready.W)
                if state == Wait.W
                else (loop.add_reader, loop.remove_reader, Ready.R)
            )
            add(db.pgconn.socket, ready.set)
            await asyncio.wait_for(ready.wait(), 20)
            remove(db.pgconn.socket)
            state = generator.send(answer)
    except StopIteration as end:
        assert states
        assert all(state in (Wait.R, Wait.W, Wait.RW) for state in states)
        return end.value


async def test_the_ceiling_is_below_the_next_minor_version() -> None:
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    [requirement] = [one for one in dependencies if one.startswith("psycopg[")]
    major, minor = psycopg.__version__.split(".")[:2]
    assert requirement.endswith(f",<{major}.{int(minor) + 1}")


async def test_the_internals_are_imported_in_one_file() -> None:
    internals = re.compile(
        r"^(?:from|import) psycopg.*\b(?:generators|waiting|PQGen)\b", re.MULTILINE
    )
    importing = [
        path.relative_to(ROOT).as_posix()
        for package in ("core", "http_api", "grpc_api", "service")
        for path in sorted((ROOT / package).rglob("*.py"))
        if internals.search(path.read_text())
    ]
    assert importing == ["core/postgres/psycopg_internals.py"]


async def test_generators_execute_flushes_a_query_and_fetches_all_of_its_results(
    db: AsyncConnection[Any],
) -> None:
    db.pgconn.send_query(b"SELECT 1; SELECT 2, 3")
    first, second = await drive(generators.execute(db.pgconn), db)
    assert (first.get_value(0, 0), second.nfields) == (b"1", 2)


async def test_generators_execute_ends_at_an_error_and_at_a_copy(db: AsyncConnection[Any]) -> None:
    db.pgconn.send_query(b"SELECT 1; SELECT 1 / 0; SELECT 2")
    results = await drive(generators.execute(db.pgconn), db)
    assert [result.status for result in results] == [
        ExecStatus.TUPLES_OK,
        ExecStatus.FATAL_ERROR,
    ]
    db.pgconn.send_query(b"CREATE TEMPORARY TABLE t (n int); COPY t FROM STDIN; SELECT 1")
    results = await drive(generators.execute(db.pgconn), db)
    assert [result.status for result in results] == [ExecStatus.COMMAND_OK, ExecStatus.COPY_IN]
    assert db.pgconn.put_copy_data(memoryview(b"1\n")) == 1
    assert db.pgconn.put_copy_end(None) == 1
    assert db.pgconn.flush() == 0
    copied, selected = await drive(generators.fetch_many(db.pgconn), db)
    assert (copied.command_tuples, selected.status) == (1, ExecStatus.TUPLES_OK)


async def test_a_connection_has_a_lock_that_guards_its_queries(db: AsyncConnection[Any]) -> None:
    assert isinstance(db.lock, asyncio.Lock)
    async with db.lock:
        query = asyncio.create_task(db.execute("SELECT 1"))
        done, _ = await asyncio.wait({query}, timeout=0.1)
        assert not done
    await query


async def test_a_connection_waits_for_any_generator(db: AsyncConnection[Any]) -> None:
    assert next(iter(inspect.signature(db.wait).parameters)) == "gen"
    db.pgconn.send_query(b"SELECT 1")
    [result] = await db.wait(generators.execute(db.pgconn))
    assert result.get_value(0, 0) == b"1"


async def test_a_result_becomes_the_error_that_psycopg_raises(db: AsyncConnection[Any]) -> None:
    result = db.pgconn.exec_(b"SELECT 1 / 0")
    error = errors.error_from_result(result)
    assert isinstance(error, errors.DivisionByZero)
    assert error.diag.message_primary == "division by zero"


async def test_a_query_and_a_copy_run_as_one(db: AsyncConnection[Any]) -> None:
    did: list[str] = []
    query = b"BEGIN; CREATE TEMPORARY TABLE t (n int); COPY t FROM STDIN; SELECT n FROM t; COMMIT"
    results = await run_query(db, query, lambda: did.append("meanwhile"))
    assert (len(results), did) == (3, ["meanwhile"])
    assert [error_of(result) for result in results] == [None] * 3
    copied, selected, committed = await end_copy(db, [memoryview(b"1\n"), memoryview(b"2\n")])
    assert (copied.command_tuples, selected.ntuples) == (2, 2)
    assert committed.command_status == b"COMMIT"


async def test_a_copy_can_be_made_to_fail(db: AsyncConnection[Any]) -> None:
    await run_query(db, b"BEGIN; CREATE TEMPORARY TABLE t (n int); COPY t FROM STDIN; COMMIT")
    [result] = await end_copy(db, (), failure=b"of a test")
    assert isinstance(error_of(result), errors.QueryCanceled)
    assert db.pgconn.transaction_status == TransactionStatus.INERROR
    await db.rollback()


async def test_a_connection_whose_results_nobody_took_is_closed(db: AsyncConnection[Any]) -> None:
    def fail() -> None:
        raise KeyError

    with pytest.raises(KeyError):
        await run_query(db, b"SELECT 1", fail)
    assert db.closed
