"""The status of a COMMIT without an answer: asked of the database until it tells."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import psycopg

from core.clock import Clock
from core.errors import UnknownCommitStatusError
from core.failure_log import one_line
from core.journal import commit_lock, producers
from core.journal.transaction import Transaction
from core.postgres.database import Database
from core.postgres.errors import NoAnswerError
from core.postgres.sessions import Connection, confirm_commit, is_writable

log = logging.getLogger(__name__)

STATUS_SECONDS: Final = 10.0  # until the status is given up as unknown
STATUS_QUERY_SECONDS: Final = 3.0
STATUS_PAUSE_SECONDS: Final = 0.2

_PROBE: Final = """
SELECT EXISTS (SELECT FROM events WHERE organization_id = %(org)s AND id = %(id)s)
    OR EXISTS (SELECT FROM snapshot_history WHERE organization_id = %(org)s AND id = %(id)s)
"""


async def was_committed(database: Database, clock: Clock, transaction: Transaction) -> bool:
    """Whether a transaction whose COMMIT got no answer took effect.

    Raises :class:`UnknownCommitStatusError` when the database does not tell in time.
    """
    deadline = clock.monotonic() + STATUS_SECONDS
    while True:
        try:
            committed = await database.within(
                STATUS_QUERY_SECONDS, _commit_status(database, transaction)
            )
            if committed is not None:
                log.warning("a commit got no answer; it took effect: %s", committed)
                return committed
        except psycopg.Error as error:
            log.warning("cannot ask whether a commit took effect: %s", one_line(error))
            await database.discard_stale()
        if clock.monotonic() > deadline:
            raise UnknownCommitStatusError("whether a commit took effect stays unknown")
        await asyncio.sleep(STATUS_PAUSE_SECONDS)


async def _commit_status(database: Database, transaction: Transaction) -> bool | None:
    """Whether the transaction took effect, durably; None while that cannot be known."""
    async with database.journal_connection(STATUS_QUERY_SECONDS) as db:
        if not await is_writable(db):
            # A standby may not have heard of the transaction yet.
            raise NoAnswerError("the database is read-only")
        lock = transaction.commit_lock
        is_over = lock is None or await commit_lock.is_free(db, lock)
        if await _is_stored(db, transaction):
            # What a server sees it may not have sent to its synchronous standbys yet: it saw its
            # own restart, say. A later commit that they have confirmed says that they have it.
            await confirm_commit(db)
            return True
        return False if is_over else None  # asked after the lock, for it could commit in between


async def _is_stored(db: Connection, transaction: Transaction) -> bool:
    """Whether the rows of a transaction are there.

    A transaction without a row may have advanced producers, by batches whose every event was
    rejected. Written again, those would be duplicates, and their rejections lost.
    """
    if transaction.probe_row is None:
        return await producers.have_reached(db, transaction.advanced)
    organization_id, row_id = transaction.probe_row
    cursor = await db.execute(_PROBE, {"org": organization_id, "id": row_id})
    row = await cursor.fetchone()
    return bool(row and row[0])
