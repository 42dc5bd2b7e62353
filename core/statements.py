"""Statements that are sent several at a time, for one round trip: how the journal writes.

A busy event loop comes to an answer only after all else that is ready, so a transaction lasts
mostly as long as it has round trips. Statements are prepared by name on each connection at their
first use and executed by name (https://www.postgresql.org/docs/current/sql-execute.html); all that
are sent together are one simple query.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

import msgspec
from psycopg import errors, generators
from psycopg.abc import PQGen
from psycopg.pq import Escaping, ExecStatus
from psycopg.pq.abc import PGconn, PGresult
from psycopg.waiting import Wait

from core.database import Connection

COPY_BYTES: Final = 262_144  # at a time: the next ones when the socket has taken these


class Statement(NamedTuple):
    """A statement to be prepared. ``types``: of its parameters, ``$1`` and so on in ``sql``."""

    name: str
    types: str
    sql: str


class Call:
    """A statement with its arguments, all of them text; and its result, once it is ``done``.

    ``rows``: values as PostgreSQL's text, None for NULL. ``tag``: PostgreSQL's command tag, such as
    ``INSERT 0 5``. ``count``: the rows that were returned or changed.
    """

    def __init__(self, statement: Statement | str, *arguments: str) -> None:
        self.statement = statement
        self.arguments = arguments
        self.done = False
        self.tag = ""
        self.count = 0
        self.rows: list[list[Any]] = []

    def settle(self, result: PGresult) -> None:
        """Take the result."""
        self.done = True
        self.tag = (result.command_status or b"").decode()
        self.count = result.command_tuples or 0
        self.rows = [
            [_text(result.get_value(row, column)) for column in range(result.nfields)]
            for row in range(result.ntuples)
        ]


class Copy(Call):
    """A COPY FROM STDIN: the last of the calls it is sent with.

    Nothing else can be sent on the connection until :meth:`write` has ended it.
    """

    async def write(self, db: Connection, pieces: Iterable[bytes]) -> None:
        """Write all data and end the COPY; raises the server's error if it refuses the data."""
        data = memoryview(b"".join(pieces))
        async with db.lock:
            for start in range(0, len(data), COPY_BYTES):
                part = data[start : start + COPY_BYTES]
                await db.wait(_copied(db.pgconn, part))
            await db.wait(generators.copy_end(db.pgconn, None))


def _copied(pgconn: PGconn, part: memoryview) -> PQGen[None]:
    # As psycopg's copy_to, but without waiting first until the socket is writable. A Unix socket
    # becomes so only when three quarters of its buffer are empty: PostgreSQL would run out of data.
    while pgconn.put_copy_data(part) == 0:
        yield Wait.W
    while pgconn.flush():
        yield Wait.W


BEGIN: Final = "BEGIN"
COMMIT: Final = "COMMIT"
LOCK_TIMEOUT: Final = Statement(
    "set_lock_timeout", "text", "SELECT set_config('lock_timeout', $1, true)"
)

_DONE: Final = (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK, ExecStatus.COPY_IN)
_PREPARE: Final = b"PREPARE %b (%b) AS %b"
_EXECUTE: Final = b"EXECUTE %b (%b)"
_prepared: Final[WeakKeyDictionary[Connection, set[str]]] = WeakKeyDictionary()


async def send(db: Connection, calls: Iterable[Call | None]) -> None:
    """Run the calls in their order, in one round trip; None are none.

    Raises the error of the first that fails, as psycopg does. Those before it are ``done``, those
    after it were not run. The connection is closed if the answers do not come, or if the caller is
    cancelled before.
    """
    known = _prepared.setdefault(db, set())
    escape = Escaping(db.pgconn).escape_literal
    parts: list[bytes] = []
    sent: list[Call | Statement] = []
    for call in calls:
        if call is None:
            continue
        statement = call.statement
        if isinstance(statement, str):
            parts.append(statement.encode())
        else:
            if statement.name not in known and statement not in sent:
                sent.append(statement)
                parts.append(_PREPARE % tuple(map(str.encode, statement)))
            arguments = b", ".join([escape(argument.encode()) for argument in call.arguments])
            parts.append(_EXECUTE % (statement.name.encode(), arguments))
        sent.append(call)
    async with db.lock:
        try:
            db.pgconn.send_query(b"; ".join(parts))
            results = await db.wait(generators.execute(db.pgconn))
        except BaseException:
            await db.close()  # for it is not known what is prepared on it
            raise
    for what, result in zip(sent, results, strict=False):  # there is none after a failure
        if result.status not in _DONE:
            error = errors.error_from_result(result)
            if isinstance(error, errors.InvalidSqlStatementName):
                known.clear()  # somebody has deallocated them, as psycopg does with its own
            raise error
        if isinstance(what, Statement):
            known.add(what.name)
        else:
            what.settle(result)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def to_json(records: Sequence[msgspec.Struct]) -> str:
    """The JSON text that ``json_to_recordset`` reads; bytes are base64 in it."""
    return _encode(records).decode()


def as_records(names: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """As :func:`to_json`, of rows and what their columns are called."""
    return _encode([dict(zip(names, row, strict=True)) for row in rows]).decode()


_encode: Final = msgspec.json.Encoder().encode
