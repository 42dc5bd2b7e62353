"""The health of a database: whether events can be written to it now."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import Final
from uuid import uuid4

from psycopg import sql
from psycopg.errors import InsufficientPrivilege

from core.postgres import partitions
from core.postgres.migrate import is_cell_migrated, is_migrated
from core.postgres.sessions import Connection, confirm_commit, is_writable

# A transaction of many events needs about as much room at a time.
PROBE_ROWS: Final = 20_000
# For a synchronous standby to confirm a commit; while it is away, each commit waits for it.
CONFIRM_SECONDS: Final = 0.8

_STATE: Final = """
SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'on',
    EXISTS (
        SELECT FROM (VALUES
            ('events', 'INSERT'), ('workers', 'INSERT'), ('worker_links', 'INSERT'),
            ('snapshot_history', 'INSERT'), ('snapshot_cards', 'INSERT'),
            ('snapshot_cards', 'UPDATE'), ('quota_usage', 'INSERT'), ('quota_usage', 'UPDATE'),
            ('idempotency_keys', 'INSERT'), ('producers', 'UPDATE')
        ) AS needed (written, privilege)
        WHERE NOT has_table_privilege(written, privilege)
    ), to_regclass(%s) IS NULL, current_setting('synchronous_standby_names') <> ''
"""
_PROBE: Final = "CREATE TABLE {0} AS SELECT gen_random_uuid() FROM generate_series(1, {1})"
_END_PROBE: Final = "DROP TABLE {0}"


class Problem(StrEnum):
    """The reason why no event can be written at this moment."""

    NOT_MIGRATED = "the database is not migrated"
    STANDBY = "the database is a standby"
    READ_ONLY = "the database is read-only"
    NO_RIGHT = "the service may not write to the database"
    NO_PARTITION = "the database has no partition for events of now"
    NOT_CONFIRMED = "no synchronous standby confirms the commits of the database"


async def write_problem(db: Connection, now_us: int) -> Problem | None:
    """The reason why no event can be written at this moment; None if none is known.

    Room on the disk is not looked at: :func:`probe` does.
    """
    if not await is_migrated(db):
        return Problem.NOT_MIGRATED
    row = await (await db.execute(_STATE, (partitions.name_at(now_us),))).fetchone()
    assert row is not None
    *found, has_standbys = row
    problems = (Problem.STANDBY, Problem.READ_ONLY, Problem.NO_RIGHT, Problem.NO_PARTITION)
    for problem, is_there in zip(problems, found, strict=True):
        if is_there:
            return problem
    return None if not has_standbys or await _is_confirmed(db) else Problem.NOT_CONFIRMED


async def cell_problem(db: Connection) -> Problem | None:
    """The reason why a cell, of which ``db`` is a session, can take nothing; None if none is known.

    It is asked often of many cells, so most of what :func:`write_problem` looks at is left out.
    """
    if not await is_cell_migrated(db):
        return Problem.NOT_MIGRATED
    return None if await is_writable(db) else Problem.READ_ONLY


async def _is_confirmed(db: Connection) -> bool:
    """Whether the synchronous standbys confirm a commit in time."""
    try:
        async with asyncio.timeout(CONFIRM_SECONDS):
            await confirm_commit(db)
    except TimeoutError:
        return False
    return True


async def probe(db: Connection) -> None:
    """Write as much as a large transaction does, and leave nothing; raises what hinders it.

    It takes new files, new pages and a COMMIT: room in pages that exist says nothing.
    """
    name = sql.Identifier(f"write_probe_{uuid4().hex}")
    try:
        async with db.transaction():
            await db.execute(sql.SQL(_PROBE).format(name, sql.Literal(PROBE_ROWS)), prepare=False)
            await db.execute(sql.SQL(_END_PROBE).format(name), prepare=False)
    except InsufficientPrivilege:
        pass  # a role that may make no tables cannot find out in this way
