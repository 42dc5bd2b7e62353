"""Writing requests durably: again if that can help, and until the commit status is known."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Final

import psycopg
from psycopg.errors import LockNotAvailable

from core.clock import Clock
from core.failure_log import one_line
from core.journal.commit_status import was_committed
from core.journal.lock_waits import LockedError
from core.journal.mode import Mode, UnexpectedOutcomeError
from core.journal.pending import PendingRequest, Verdict
from core.journal.transaction import Transaction
from core.journal.worker_changes import WorkersChangedError
from core.journal.workers import WorkerCache
from core.postgres import partitions
from core.postgres.database import Database
from core.postgres.errors import is_away, is_connection_loss, is_transient
from core.postgres.sessions import without_warnings
from core.tracing import UNTRACED_TRANSACTION, Step, Tracer

log = logging.getLogger(__name__)

MAX_ATTEMPTS: Final = 3
MAX_ATTEMPT_SECONDS: Final = 5.0  # no new attempt begins after this
RETRY_PAUSE_SECONDS: Final = 0.1
STEPWISE_SECONDS: Final = 2.0  # stay stepwise after a transaction that could not be written whole
WRITE_SECONDS: Final = 6.0  # for a transaction; a server that hangs cannot bound it itself


class Writer:
    """Writes requests together, in one transaction each time.

    Transactions are optimistic, but stepwise for a while after one that could not be written as a
    whole: where one request is replayed or over its quota, there are often more.
    """

    def __init__(
        self, database: Database, clock: Clock, cache: WorkerCache, tracer: Tracer | None = None
    ) -> None:
        self._database = database
        self._clock = clock
        self._cache = cache
        self._tracer = tracer
        self._stepwise_until = clock.monotonic()

    async def write(
        self, requests: Sequence[PendingRequest], lock_seconds: float | None
    ) -> list[Verdict]:
        """Write requests and return their outcomes, which are durable then.

        An attempt is repeated if the same can succeed when it simply runs again, or if others have
        charged its quotas meanwhile.

        ``lock_seconds``: the longest wait for a lock, None as in the session; longer raises
        :class:`LockedError`. Raises :class:`UnknownCommitStatusError` if it cannot be known whether
        the requests were written. Any other error means that they were not.
        """
        now = self._clock.monotonic()
        last_begin = now + MAX_ATTEMPT_SECONDS
        if now >= self._stepwise_until:
            with contextlib.suppress(UnexpectedOutcomeError):
                return await self._write(requests, lock_seconds, Mode.OPTIMISTIC, last_begin)
        return await self._write(requests, lock_seconds, Mode.STEPWISE, last_begin)

    async def _write(
        self,
        requests: Sequence[PendingRequest],
        lock_seconds: float | None,
        mode: Mode,
        last_begin: float,
    ) -> list[Verdict]:
        for attempt in range(1, MAX_ATTEMPTS + 1):
            transaction = Transaction(requests, self._cache, self._clock.now_us(), mode)
            try:
                with self._traced(requests, mode) as transaction.step:
                    return await self._transact(transaction, lock_seconds)
            except WorkersChangedError:
                if attempt == MAX_ATTEMPTS:
                    raise
            except psycopg.Error as error:
                give_up = attempt == MAX_ATTEMPTS or self._clock.monotonic() > last_begin
                if transaction.is_short and not give_up:
                    mode = Mode.LOCKED
                    continue
                if transaction.lacks_partition and not give_up:
                    await self._make_partitions(requests)
                    continue
                if give_up or not is_transient(error):
                    raise
                log.warning("writing a transaction is tried again: %s", one_line(error))
                if is_away(error):
                    await self._database.discard_stale()
                await asyncio.sleep(RETRY_PAUSE_SECONDS * attempt)
        raise AssertionError("unreachable")

    def _traced(
        self, requests: Sequence[PendingRequest], mode: Mode
    ) -> AbstractContextManager[Step]:
        if self._tracer is None:
            return UNTRACED_TRANSACTION
        spans = [request.span for request in requests if request.span is not None]
        return self._tracer.transaction(
            spans, {"wepeople.mode": mode.name.lower(), "wepeople.requests": len(requests)}
        )

    async def _make_partitions(self, requests: Sequence[PendingRequest]) -> None:
        """Make the months in which the requests were received: the clock may have been wrong."""
        moments = {partitions.name_at(one.received_us): one.received_us for one in requests}
        async with self._database.ddl_connection() as db:
            for received_us in moments.values():
                for name in await partitions.ensure_partitions(db, received_us):
                    log.warning("made partition %s, which an event was missing", name)

    async def _transact(
        self, transaction: Transaction, lock_seconds: float | None
    ) -> list[Verdict]:
        try:
            async with self._database.journal_connection(WRITE_SECONDS) as db:
                try:
                    with without_warnings(db):
                        await transaction.write(db, lock_seconds)
                except psycopg.Error as error:
                    if is_connection_loss(error):
                        await db.close()  # a session that lives on would keep its lock
                    raise
        except LockNotAvailable as error:
            raise LockedError(at_idempotency_key=not transaction.has_keys) from error
        except psycopg.Error as error:
            # Lost while committing: only the database knows. Not known is not "not written".
            if not (transaction.committing and is_connection_loss(error)):
                raise
            status = was_committed(self._database, self._clock, transaction)
            if not await transaction.step("commit status", status):
                raise
        finally:
            if not transaction.is_as_expected:
                self._stepwise_until = self._clock.monotonic() + STEPWISE_SECONDS
        self._cache.remember(transaction.resolved, transaction.recalled.changes)
        return transaction.outcomes
