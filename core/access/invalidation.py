"""Cache invalidation: operators' changes by PostgreSQL's NOTIFY, and proof that none was missed.

One channel, in the home database, serves all cells. Triggers announce the organization of every
changed key, app or organization of the home cell, and every change of the directory. For another
cell the functions of ``core/admin`` announce a change before and after it. Values read from the
database may be cached as long as the notification connection is known to be alive. While it is
not, :attr:`Invalidation.heard_until` stands still, and caches must read again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final
from uuid import UUID

import psycopg
from psycopg import Notify

from core.clock import Clock
from core.failure_log import FailureLog
from core.postgres.database import Database
from core.postgres.errors import NoAnswerError
from core.postgres.sessions import Connection, is_writable

log = logging.getLogger(__name__)

CHANNEL: Final = "wepeople_changes"
HEARTBEAT_SECONDS: Final = 0.2
HEARTBEAT_TIMEOUT_SECONDS: Final = 2.0
RECONNECT_SECONDS: Final = 0.1  # between two tries to connect


class Invalidation:
    """Runs the notification connection and tells subscribers which organization changed.

    Subscribers are called in the event loop and must not block. They are called with None if
    anything may have changed. ``heard_until`` (monotonic seconds): every change committed before it
    has been delivered to all subscribers.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._subscribers: list[Callable[[UUID | None], None]] = []
        self.heard_until = float("-inf")
        self._failures, self._losses = FailureLog(log, clock), FailureLog(log, clock)

    def subscribe(self, callback: Callable[[UUID | None], None]) -> None:
        """Call ``callback`` with the id of each changed organization from now on."""
        self._subscribers.append(callback)

    async def run(self) -> None:
        """Listen until cancelled. A lost connection is made again as soon as the server is back."""
        while True:
            try:
                connection = await self._database.dedicated("wepeople-ingest changes")
            except Exception as error:
                self._failures.note("cannot listen for changes", error, expected=_is_usual(error))
                await self._database.discard_stale()
                await asyncio.sleep(RECONNECT_SECONDS)
                continue
            try:
                await self._listen(connection)
            except Exception as error:
                what = "the connection that hears of changes was lost"
                self._losses.note(what, error, expected=True)
                await self._database.discard_stale()
            finally:
                # Not close(): it would wait for a server that may be the reason of the failure.
                connection.pgconn.finish()

    async def _listen(self, connection: Connection) -> None:
        async with asyncio.timeout(HEARTBEAT_TIMEOUT_SECONDS):
            await connection.execute(f"LISTEN {CHANNEL}")
        self._publish(None)  # for the changes before this connection listened
        while True:
            asked_at = self._clock.monotonic()
            async with asyncio.timeout(HEARTBEAT_TIMEOUT_SECONDS):
                # Notifications committed before the server runs this arrive with its answer. A
                # server that was the primary before hears of nothing new.
                if not await is_writable(connection):
                    raise NoAnswerError("the database is read-only")
            await self._deliver(connection, 0)
            self.heard_until = asked_at
            await self._deliver(connection, HEARTBEAT_SECONDS)

    async def _deliver(self, connection: Connection, seconds: float) -> None:
        async for notify in connection.notifies(timeout=seconds):
            self._publish(_organization_of(notify))

    def _publish(self, organization_id: UUID | None) -> None:
        for callback in self._subscribers:
            callback(organization_id)


def _is_usual(error: Exception) -> bool:
    return isinstance(error, (psycopg.Error, OSError))


def _organization_of(notify: Notify) -> UUID | None:
    try:
        return UUID(notify.payload)
    except ValueError:
        return None
