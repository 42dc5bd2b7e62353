"""The parts of psycopg that are not its public interface, used in this one file.

psycopg runs a query by driving a generator: the generator talks to libpq and yields when it has to
wait for the socket. Its own generators neither send several statements in one query nor let the
caller work meanwhile. tests/core/postgres/test_psycopg_internals.py names everything that is relied
on here, and pyproject.toml has a ceiling for the version.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from psycopg import errors, generators
from psycopg.abc import PQGen
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn, PGresult
from psycopg.waiting import Wait

from core.postgres.sessions import Connection

_SUCCESSES: Final = (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK, ExecStatus.COPY_IN)


async def run_query(
    db: Connection, query: bytes, meanwhile: Callable[[], None] | None = None
) -> list[PGresult]:
    """Run a simple query of any number of statements; returns a result for each.

    The results end after the first error, or with that of a COPY that waits for its data.
    ``meanwhile`` is called once the query is sent, while the server works on it. The connection is
    closed if the results do not come, if the caller is cancelled or if ``meanwhile`` raises.
    """
    return await _run(db, _query(db.pgconn, query, meanwhile))


async def end_copy(
    db: Connection, data: Iterable[memoryview], failure: bytes | None = None
) -> list[PGresult]:
    """Send the data of a COPY that waits for it, and end the COPY.

    Returns its result and those of the statements behind it. With a ``failure``, the text of an
    error, the COPY fails. The connection is closed as by :func:`run_query`.
    """
    return await _run(db, _copy(db.pgconn, data, failure))


def check_open(db: Connection) -> None:
    """Raise psycopg.OperationalError if it has come here that the server has ended the session."""
    # The first reads what the server says of its reason, and the second that no more is to come.
    for _ in range(2):
        db.pgconn.consume_input()


def error_of(result: PGresult) -> errors.Error | None:
    """The error that a result stands for, as psycopg raises it; None if it is none."""
    return None if result.status in _SUCCESSES else errors.error_from_result(result)


def _query(
    pgconn: PGconn, query: bytes, meanwhile: Callable[[], None] | None
) -> PQGen[list[PGresult]]:
    pgconn.send_query(query)
    if meanwhile is not None:
        meanwhile()
    results: list[PGresult] = yield from generators.execute(pgconn)
    return results


def _copy(
    pgconn: PGconn, data: Iterable[memoryview], failure: bytes | None
) -> PQGen[list[PGresult]]:
    # Unlike psycopg's copy_to and copy_end, this does not wait first until the socket is writable.
    # A Unix socket becomes so only when three quarters of its buffer are empty, and PostgreSQL
    # would run out of data.
    puts = [partial(pgconn.put_copy_data, part) for part in data]
    for put in (*puts, partial(pgconn.put_copy_end, failure)):
        while put() == 0:
            yield Wait.W
        while pgconn.flush():
            yield Wait.W
    results: list[PGresult] = yield from generators.fetch_many(pgconn)
    return results


async def _run(db: Connection, generator: PQGen[list[PGresult]]) -> list[PGresult]:
    async with db.lock:
        try:
            return await db.wait(generator)
        except BaseException:
            # Its prepared statements are not known now, and a COPY must not end with half its data.
            await db.close()
            raise
