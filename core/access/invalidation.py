"""Hearing of operators' changes: PostgreSQL's NOTIFY, and proof that we would have heard it.

Triggers announce the organization of every changed key, app or organization. What was read from
the database may be trusted as long as the notification connection is known to be alive; while it
is not, :attr:`Invalidation.heard_until` stands still and whoever caches must read again.
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
from core.postgres.database import Database
from core.postgres.errors import one_line
from core.postgres.sessions import Connection

log = logging.getLogger(__name__)

CHANNEL: Final = "wepeople_changes"
HEARTBEAT_SECONDS: Final = 0.2
HEARTBEAT_TIMEOUT_SECONDS: Final = 2.0
MIN_RECONNECT_SECONDS: Final = 0.1
MAX_RECONNECT_SECONDS: Final = 1.0


class Invalidation:
    """Runs the notification connection and tells subscribers which organization changed.

    ``heard_until`` (monotonic seconds): every change committed before it has been delivered to
    all subscribers. Subscribers are called in the event loop and must not block; None means that
    anything may have changed.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._subscribers: list[Callable[[UUID | None], None]] = []
        self.heard_until = float("-inf")

    def subscribe(self, callback: Callable[[UUID | None], None]) -> None:
        """Command ``callback`` with each changed organization from now on."""
        self._subscribers.append(callback)

    async def run(self) -> None:
        """Listen until cancelled; a lost connection is made again, with bounded back-off."""
        pause = 0.0
        while True:
            await asyncio.sleep(pause)
            try:
                connection = await self._database.dedicated("wepeople-ingest changes")
            except psycopg.Error as error:
                log.warning("cannot listen for changes: %s", one_line(error))
                pause = min(MAX_RECONNECT_SECONDS, pause * 2 or MIN_RECONNECT_SECONDS)
                continue
            pause = MIN_RECONNECT_SECONDS
            try:
                await self._listen(connection)
            except (psycopg.Error, TimeoutError) as error:
                log.warning("the connection that hears of changes was lost: %s", one_line(error))
                await self._database.discard_stale()
            finally:
                # Not the polite close: the peer may be the reason that we are here.
                connection.pgconn.finish()

    async def _listen(self, connection: Connection) -> None:
        async with asyncio.timeout(HEARTBEAT_TIMEOUT_SECONDS):
            await connection.execute(f"LISTEN {CHANNEL}")
        self._publish(None)  # whatever was announced before we listened
        while True:
            asked = self._clock.monotonic()
            async with asyncio.timeout(HEARTBEAT_TIMEOUT_SECONDS):
                # Notifications committed before the server saw this are delivered with it.
                await connection.execute("SELECT 1")
            await self._deliver(connection, 0)
            self.heard_until = asked
            await self._deliver(connection, HEARTBEAT_SECONDS)

    async def _deliver(self, connection: Connection, seconds: float) -> None:
        async for notify in connection.notifies(timeout=seconds):
            self._announce(notify)

    def _announce(self, notify: Notify) -> None:
        try:
            organization_id = UUID(notify.payload)
        except ValueError:
            organization_id = None
        self._publish(organization_id)

    def _publish(self, organization_id: UUID | None) -> None:
        for callback in self._subscribers:
            callback(organization_id)
