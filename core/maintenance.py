"""Maintenance: the periodic work behind the service, in each cell.

Every server process does it. The database arbitrates, so doing it twice is harmless.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

import psycopg

from core.clock import Clock
from core.errors import IngestError
from core.failure_log import FailureLog
from core.journal import app_producers, idempotency, key_uses, rejections, traffic
from core.journal.rejections import Rejections
from core.journal.traffic import Traffic
from core.postgres import audit, partitions
from core.postgres.database import Database
from core.postgres.sessions import JOURNAL_SESSION_NAME, Connection

log = logging.getLogger(__name__)

CLEAN_SECONDS: Final = 30.0
PARTITIONS_SECONDS: Final = 600.0
FORGET_SECONDS: Final = 3_600.0
HUNG_CHECK_SECONDS: Final = 5.0
# A process that works cuts its connection long before (core/journal/writer.py).
MAX_COPY_SECONDS: Final = 15.0
# Partitions are made three months ahead. With less than this left, an operator must act.
HORIZON_ALARM_US: Final = 31 * 86_400 * 1_000_000

# No time-out of PostgreSQL ends a COPY that waits for its client. If the client hangs, or its host
# is gone, the COPY would keep its locks.
_END_HUNG: Final = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user AND application_name = %s
    AND state = 'active' AND wait_event = 'ClientRead'
    AND xact_start < now() - %s * interval '1 second'
"""

Work = Callable[[Connection], Awaitable[None]]
Connect = Callable[[], AbstractAsyncContextManager[Connection]]


class Maintenance:
    """Writes rejections and traffic, deletes old idempotency keys, makes and drops partitions.

    It forgets producers that are not used any more, and old traffic. It also ends the transactions
    of processes that hang. ``retention_months``: how long events are kept; None for ever.
    ``is_home``: the cell is the home cell, beside which the audit log is; old entries of that are
    deleted, too.
    """

    def __init__(
        self,
        database: Database,
        rejections: Rejections,
        traffic: Traffic,
        clock: Clock,
        retention_months: int | None,
        *,
        is_home: bool = True,
    ) -> None:
        self._database = database
        self._is_home = is_home
        self._rejections = rejections
        self._traffic = traffic
        self._clock = clock
        self._retention_months = retention_months
        self._failures: dict[object, FailureLog] = {}

    async def run(self) -> None:
        """Work until cancelled. Work that fails is logged, and tried again at its next turn."""
        await asyncio.gather(
            self._flush_repeatedly(self._rejections, rejections.FLUSH_SECONDS),
            self._flush_repeatedly(self._traffic, traffic.FLUSH_SECONDS),
            self._repeat(CLEAN_SECONDS, self._delete_old_keys),
            self._repeat(
                PARTITIONS_SECONDS, self._maintain_partitions, self._database.ddl_connection
            ),
            self._repeat(FORGET_SECONDS, self._forget_producers),
            self._repeat(FORGET_SECONDS, self._clean_traffic),
            *([self._repeat(FORGET_SECONDS, self._clean_audit)] if self._is_home else []),
            self._repeat(HUNG_CHECK_SECONDS, self._end_hung),
        )

    async def finish(self) -> None:
        """Flush the statistics, before the database is closed."""
        await self._flush(self._rejections)
        await self._flush(self._traffic)

    async def _flush_repeatedly(self, noted: Rejections | Traffic, seconds: float) -> None:
        while True:
            await self._flush(noted)
            await asyncio.sleep(seconds)

    async def _flush(self, noted: Rejections | Traffic) -> None:
        if noted:
            await self._attempt(noted.flush)

    async def _repeat(self, seconds: float, work: Work, connection: Connect | None = None) -> None:
        while True:
            await self._attempt(work, connection)
            await asyncio.sleep(seconds)

    async def _attempt(self, work: Work, connection: Connect | None = None) -> None:
        try:
            async with (connection or self._database.background_connection)() as db:
                await work(db)
        except Exception as error:  # such as a want of descriptors: never the end of the service
            failures = self._failures.setdefault(work, FailureLog(log, self._clock))
            failures.note(
                "maintenance failed, will be tried again",
                error.__cause__ or error,
                expected=isinstance(error, (psycopg.Error, IngestError, OSError)),
            )

    async def _delete_old_keys(self, db: Connection) -> None:
        deleted = idempotency.MAX_CLEANED_AT_ONCE
        while deleted == idempotency.MAX_CLEANED_AT_ONCE:
            deleted = await idempotency.clean(db, self._clock.now_us())

    async def _clean_audit(self, db: Connection) -> None:
        while await audit.clean(db) == audit.MAX_CLEANED_AT_ONCE:
            pass

    async def _clean_traffic(self, db: Connection) -> None:
        while await traffic.clean(db, self._clock.now_us()) == traffic.MAX_CLEANED_AT_ONCE:
            pass
        while await key_uses.clean(db) == key_uses.MAX_CLEANED_AT_ONCE:
            pass

    async def _forget_producers(self, db: Connection) -> None:
        if forgotten := await app_producers.forget_unused(db, self._clock.now_us()):
            log.info("forgot %d producers that were not used for long", forgotten)

    async def _end_hung(self, db: Connection) -> None:
        cursor = await db.execute(_END_HUNG, (JOURNAL_SESSION_NAME, MAX_COPY_SECONDS))
        if cursor.rowcount:
            log.warning(
                "ended %d transactions that waited for their rows for over %g s: a process of the "
                "service, here or elsewhere, hangs or is gone",
                cursor.rowcount,
                MAX_COPY_SECONDS,
            )

    async def _maintain_partitions(self, db: Connection) -> None:
        now_us = self._clock.now_us()
        try:
            for name in await partitions.ensure_partitions(db, now_us):
                log.info("made partition %s", name)
            if self._retention_months is not None:
                # By both clocks: one that is ahead would drop what others still write.
                earlier_us = min(now_us, await partitions.server_now_us(db))
                for name in await partitions.drop_expired(db, earlier_us, self._retention_months):
                    log.info("dropped partition %s: its retention has ended", name)
        finally:
            horizon_us = await partitions.horizon_us(db)
            if horizon_us is None or horizon_us - now_us < HORIZON_ALARM_US:
                log.error("partitions for events end too soon: new months cannot be made")
