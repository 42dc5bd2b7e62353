"""Connections to the databases of cells, for operators' work, whose statements are bounded."""

from __future__ import annotations

from typing import Final

import psycopg

from core.failure_log import one_line
from core.postgres import directory
from core.postgres.directory import CellRecord
from core.postgres.errors import DatabaseUnusableError
from core.postgres.migrate import is_cell_migrated
from core.postgres.sessions import Connection

FAILURES: Final = (psycopg.Error, DatabaseUnusableError, OSError)  # of a cell's database

_BOUND_STATEMENTS: Final = "SELECT set_config('statement_timeout', %s, false)"


async def connect(record: CellRecord, home_conninfo: str, statement_seconds: int) -> Connection:
    """A new session of the cell, which the caller closes. Raises one of ``FAILURES``."""
    db = await directory.connect_to(record, home_conninfo)
    try:
        await db.execute(_BOUND_STATEMENTS, (f"{statement_seconds}s",))
    except BaseException:
        await db.close()
        raise
    return db


async def connect_migrated(
    record: CellRecord, home_conninfo: str, statement_seconds: int
) -> Connection:
    """As :func:`connect`, of a cell that has this release's tables.

    Raises :class:`DatabaseUnusableError` if it does not answer, or has not.
    """
    try:
        db = await connect(record, home_conninfo, statement_seconds)
        try:
            if await is_cell_migrated(db):
                return db
        except BaseException:
            await db.close()
            raise
    except FAILURES as error:
        raise DatabaseUnusableError(
            f"the cell {record.name} does not answer: {one_line(error)}"
        ) from error
    await db.close()
    raise DatabaseUnusableError(
        f"the cell {record.name} does not have this release's tables: run `wepeople-ingest migrate`"
    )
