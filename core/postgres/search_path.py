"""The schema in which a session finds its tables: statements name none, and serve every cell."""

from __future__ import annotations

from typing import Final, NamedTuple
from weakref import WeakKeyDictionary

from psycopg.pq import TransactionStatus

from core.postgres.sessions import SESSION_SECONDS, Connection, cut_after

_READ: Final = "SELECT pg_catalog.current_setting('search_path')"
_SET: Final = "SELECT pg_catalog.set_config('search_path', %s, false)"
_IN_TRANSACTION: Final = (TransactionStatus.INTRANS, TransactionStatus.INERROR)


class _Turned(NamedTuple):
    """A session that was turned to a schema; ``own``: the search path that it began with."""

    schema: str | None
    own: str


_turned: Final[WeakKeyDictionary[Connection, _Turned]] = WeakKeyDictionary()


async def use_schema(db: Connection, schema: str | None) -> None:
    """Have the session find its tables in that schema alone, a cell's name; None: where it began.

    It costs nothing if they are found there already. In a transaction, which never spans cells, it
    is an error. The session is closed if that fails, and is lost after ``SESSION_SECONDS``.
    Prepared statements take the tables of the schema that is used when they are executed.
    """
    turned = _turned.get(db)
    if schema == (turned and turned.schema):
        return
    if db.pgconn.transaction_status in _IN_TRANSACTION:
        raise RuntimeError("a transaction spans two cells")
    try:
        with cut_after(db, SESSION_SECONDS):
            if turned is None:
                row = await (await db.execute(_READ, prepare=False)).fetchone()
                turned = _Turned(None, row[0] if row else "")
            path = turned.own if schema is None else schema
            await db.execute(_SET, (path,), prepare=False)
    except BaseException:
        await db.close()  # it may have been turned, or not
        raise
    _turned[db] = turned._replace(schema=schema)
