"""Writing a group durably: again if need be, and until it is known whether it took effect."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import Final

import psycopg
from psycopg.errors import LockNotAvailable

from core.clock import Clock
from core.errors import UnknownCommitStatusError
from core.journal import producers, quota
from core.journal.lock_waits import LockedError
from core.journal.pending import PendingRequest, Verdict
from core.journal.transaction import Mode, Transaction, UnforeseenError
from core.journal.workers import WorkerCache
from core.postgres.database import Database
from core.postgres.errors import is_connection_loss, is_transient, one_line
from core.postgres.sessions import Connection

log = logging.getLogger(__name__)

MAX_ATTEMPTS: Final = 3
MAX_ATTEMPT_SECONDS: Final = 5.0  # no new attempt begins after this
RETRY_PAUSE_SECONDS: Final = 0.1
CAREFUL_SECONDS: Final = 2.0  # step by step, after a group that could not be written whole
WRITE_SECONDS: Final = 6.0  # for a transaction; what a server that hangs cannot bound itself
SETTLE_SECONDS: Final = 10.0
SETTLE_QUERY_SECONDS: Final = 3.0
SETTLE_PAUSE_SECONDS: Final = 0.2


class Writer:
    """Writes groups of drafts, each in one transaction.

    All that is needed is sent at once, but not for a while after a group that could not be written
    as a whole: where one request is replayed or over its quota, there are often more.
    """

    def __init__(self, database: Database, clock: Clock, cache: WorkerCache) -> None:
        self._database = database
        self._clock = clock
        self._cache = cache
        self._careful_until = clock.monotonic()

    async def write(
        self, drafts: Sequence[PendingRequest], lock_seconds: float | None
    ) -> list[Verdict]:
        """Write drafts together and return their outcomes, which are durable then.

        What can succeed if it is simply run again is tried again; so is a group whose quotas were
        charged by others meanwhile (:class:`Transaction`).

        ``lock_seconds``: how long a lock is waited for, None as in the session;
        :class:`LockedError` after that. :class:`UnknownCommitStatusError` if it cannot be known whether
        they were written; any other error means that they were not.
        """
        now = self._clock.monotonic()
        last_begin = now + MAX_ATTEMPT_SECONDS
        if now >= self._careful_until:
            with contextlib.suppress(UnforeseenError):
                return await self._write(drafts, lock_seconds, Mode.OPTIMISTIC, last_begin)
        return await self._write(drafts, lock_seconds, Mode.STEPWISE, last_begin)

    async def _write(
        self,
        drafts: Sequence[PendingRequest],
        lock_seconds: float | None,
        approach: Mode,
        last_begin: float,
    ) -> list[Verdict]:
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                return await self._transact(drafts, lock_seconds, approach)
            except psycopg.Error as error:
                give_up = attempt == MAX_ATTEMPTS or self._clock.monotonic() > last_begin
                if quota.is_short(error) and not give_up:
                    approach = Mode.LOCKED
                    continue
                if give_up or not is_transient(error):
                    raise
                log.warning("writing a group is tried again: %s", one_line(error))
                if is_connection_loss(error):
                    await self._database.discard_stale()
                await asyncio.sleep(RETRY_PAUSE_SECONDS * attempt)
        raise AssertionError("unreachable")

    async def _transact(
        self, drafts: Sequence[PendingRequest], lock_seconds: float | None, approach: Mode
    ) -> list[Verdict]:
        group = Transaction(drafts, self._cache, self._clock.now_us(), approach)
        try:
            async with self._database.raw_connection(WRITE_SECONDS) as db:
                await group.write(db, lock_seconds)
        except LockNotAvailable as error:
            raise LockedError(at_key=not group.has_claimed) from error
        except psycopg.Error as error:
            # Lost while committing: only the database knows. Not known is not "not written".
            if not (group.committing and is_connection_loss(error)):
                raise
            if not await self._committed(group):
                raise
        finally:
            if not group.is_whole:
                self._careful_until = self._clock.monotonic() + CAREFUL_SECONDS
        self._cache.remember(group.resolved)
        return group.outcomes

    async def _committed(self, group: Transaction) -> bool:
        """Whether a transaction whose COMMIT got no answer took effect.

        Raises :class:`UnknownCommitStatusError` when the database does not tell in time.
        """
        deadline = self._clock.monotonic() + SETTLE_SECONDS
        while True:
            try:
                committed = await self._database.within(SETTLE_QUERY_SECONDS, self._fate(group))
                if committed is not None:
                    log.warning("a commit got no answer; it took effect: %s", committed)
                    return committed
            except psycopg.Error as error:
                log.warning("cannot ask whether a commit took effect: %s", one_line(error))
                await self._database.discard_stale()
            if self._clock.monotonic() > deadline:
                raise UnknownCommitStatusError("whether a commit took effect stays unknown")
            await asyncio.sleep(SETTLE_PAUSE_SECONDS)

    async def _fate(self, group: Transaction) -> bool | None:
        """Whether a transaction took effect; None while it is still going on."""
        async with self._database.raw_connection(SETTLE_QUERY_SECONDS) as db:
            if await _has_ended(db, group.transaction_id):
                return await _is_there(db, group)
        return None


_STATUS: Final = "SELECT pg_xact_status(%s::xid8)"


async def _has_ended(db: Connection, transaction_id: str | None) -> bool:
    """Whether a transaction is over, one way or the other."""
    try:
        row = await (await db.execute(_STATUS, (transaction_id,))).fetchone()
    except psycopg.DataError:
        return True  # an id of the future: the server crashed before it had written of it
    return row is None or row[0] != "in progress"


_WITNESS: Final = """
SELECT EXISTS (SELECT FROM events WHERE organization_id = %(org)s AND id = %(id)s)
    OR EXISTS (SELECT FROM snapshot_history WHERE organization_id = %(org)s AND id = %(id)s)
"""


async def _is_there(db: Connection, group: Transaction) -> bool:
    """Whether what a group wrote is stored.

    The status of the transaction alone would not do: after a crash its id can be given again. A
    group without a row may have advanced producers, by batches of which everything was rejected;
    written again, those would be duplicates, and their rejections lost.
    """
    if group.witness is None:
        return await producers.have_reached(db, group.advanced)
    organization_id, row_id = group.witness
    cursor = await db.execute(_WITNESS, {"org": organization_id, "id": row_id})
    row = await cursor.fetchone()
    return bool(row and row[0])
