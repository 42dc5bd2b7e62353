"""Several statements in one round trip to the database: how the journal writes.

A busy event loop comes to an answer only after everything else that is ready, so a transaction
lasts mostly as long as its round trips are many. Statements are prepared by name on each connection
at their first use, and executed by name
(https://www.postgresql.org/docs/current/sql-execute.html). All that are sent together are one
simple query.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

import msgspec
import psycopg
from psycopg import errors
from psycopg.pq import Escaping
from psycopg.pq.abc import PGresult

from core.postgres import psycopg_internals
from core.postgres.sessions import Connection

COPY_BYTES: Final = 262_144  # a chunk of COPY data; the next one goes when the socket has taken it


class Statement(NamedTuple):
    """A statement to be prepared. ``types``: of its parameters, ``$1`` and so on in ``sql``."""

    name: str
    types: str
    sql: str


class Command:
    """A statement with its arguments, as text or None for NULL, and its result once it is ``done``.

    ``row_count``: the rows that it returned. ``tag``: PostgreSQL's command tag, such as
    ``COMMIT``; its number of rows is not to be trusted on Citus. ``error``: PostgreSQL's, if it
    refused this very statement; a lost connection is no statement's.
    """

    def __init__(self, statement: Statement | str, *arguments: str | None) -> None:
        self.statement = statement
        self.arguments = arguments
        self.done = False
        self.error: psycopg.Error | None = None
        self.tag = ""
        self.row_count = 0
        self._result: PGresult | None = None

    def complete(self, result: PGresult) -> None:
        """Keep the result."""
        self.done = True
        self.tag = (result.command_status or b"").decode()
        self.row_count = result.ntuples
        self._result = result

    @property
    def rows(self) -> list[list[Any]]:
        """The rows that were returned: values as PostgreSQL's text, None for NULL."""
        result = self._result
        if result is None:
            return []
        return [
            [_text(result.get_value(row, column)) for column in range(result.nfields)]
            for row in range(result.ntuples)
        ]


class CopyCommand(Command):
    """A COPY FROM STDIN. Commands that are sent behind it run once it has ended.

    Nothing else can be sent on the connection until :meth:`write` or :meth:`abandon` has ended it.
    It is ``done`` once it has begun; its ``tag`` comes with its end.
    """

    def __init__(self, statement: Statement | str, *arguments: str) -> None:
        super().__init__(statement, *arguments)
        self.following: Sequence[Command | Statement] = ()  # set by :func:`send`

    async def write(self, db: Connection, data: bytes) -> None:
        """Write all data, end the COPY and wait for the commands behind it.

        Raises the server's error if it refuses the data, or if one of those commands fails. The
        connection is closed if the end of all of that does not come.
        """
        whole = memoryview(data)
        chunks = [whole[start : start + COPY_BYTES] for start in range(0, len(data), COPY_BYTES)]
        _complete(db, [self, *self.following], await psycopg_internals.end_copy(db, chunks))

    async def abandon(self, db: Connection, reason: str) -> None:
        """Have the COPY fail, and with it the transaction; the commands behind it do not run."""
        await psycopg_internals.end_copy(db, (), failure=reason.encode())


BEGIN: Final = "BEGIN"
COMMIT: Final = "COMMIT"
LOCK_TIMEOUT: Final = Statement(
    "set_lock_timeout", "text", "SELECT set_config('lock_timeout', $1, true)"
)

_PREPARE: Final = b"PREPARE %b (%b) AS %b"
_EXECUTE: Final = b"EXECUTE %b (%b)"
_prepared: Final[WeakKeyDictionary[Connection, set[str]]] = WeakKeyDictionary()


async def send(
    db: Connection, commands: Iterable[Command | None], meanwhile: Callable[[], None] | None = None
) -> None:
    """Run commands in their order, in one round trip; None stands for no command.

    Commands behind a :class:`CopyCommand` run when that has ended. ``meanwhile`` is called once all
    are sent, while the server works on them.

    Raises the error of the first command that fails, as psycopg does. Those before it are ``done``,
    those after it did not run. The connection is closed if the answers do not come, if the
    caller is cancelled or if ``meanwhile`` raises before.
    """
    known = _prepared.setdefault(db, set())
    escape = Escaping(db.pgconn).escape_literal
    parts: list[bytes] = []
    sent: list[Command | Statement] = []
    for command in commands:
        if command is None:
            continue
        statement = command.statement
        if isinstance(statement, str):
            parts.append(statement.encode())
        else:
            if statement.name not in known and statement not in sent:
                sent.append(statement)
                parts.append(_PREPARE % tuple(map(str.encode, statement)))
            arguments = b", ".join(
                [
                    b"NULL" if argument is None else escape(argument.encode())
                    for argument in command.arguments
                ]
            )
            parts.append(_EXECUTE % (statement.name.encode(), arguments))
        sent.append(command)
    for index, one in enumerate(sent):
        if isinstance(one, CopyCommand):
            one.following = sent[index + 1 :]
    _complete(db, sent, await psycopg_internals.run_query(db, b"; ".join(parts), meanwhile))


def _complete(
    db: Connection, sent: Sequence[Command | Statement], results: Iterable[PGresult]
) -> None:
    known = _prepared[db]
    for one, result in zip(sent, results, strict=False):  # the results end after a failure
        if (error := psycopg_internals.error_of(result)) is not None:
            if isinstance(error, errors.InvalidSqlStatementName):
                known.clear()  # somebody deallocated them, as psycopg does with its own
            if isinstance(one, Command):
                one.error = error
            raise error
        if isinstance(one, Statement):
            known.add(one.name)
        else:
            one.complete(result)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


_encode: Final = msgspec.json.Encoder().encode


def to_json(records: Sequence[msgspec.Struct]) -> str:
    """The JSON text that ``json_to_recordset`` reads; bytes are base64 in it."""
    return _encode(records).decode()


def as_records(names: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """Rows as :func:`to_json` makes them of structs, with the names of their columns."""
    return _encode([dict(zip(names, row, strict=True)) for row in rows]).decode()
