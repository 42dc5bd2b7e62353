"""Pending requests, written to a real PostgreSQL without an API or a queue before them."""

from __future__ import annotations

from collections.abc import Sequence

from core import ids
from core.clock import Clock
from core.errors import IngestError, StreamError
from core.journal.pending import Outcome
from core.journal.pending_events import PendingEvents
from core.journal.workers import WorkerCache
from core.journal.writer import Writer
from core.models import Actor, Caller, Event, EventBatch, StreamPosition
from core.postgres.database import Database
from tests.support.tenant import Tenant


class DirectWriter:
    """A writer on a database of its own, and an organization with a quota."""

    def __init__(self, database: Database, tenant: Tenant, caller: Caller) -> None:
        self.clock = Clock()
        self.database = database
        self.tenant = tenant
        self.caller = caller
        self._writer = Writer(database, self.clock, WorkerCache())

    def request(
        self,
        events: int,
        *,
        key: str | None = None,
        position: StreamPosition | None = None,
        actor: Actor | None = None,
    ) -> PendingEvents:
        event = Event("ticket.resolved", "code", actor or Actor(external_id="crm-user-1"))
        request_id = ids.new_request_id(self.clock.now_us())
        batch = EventBatch(request_id, [event] * events, key, position is not None, position)
        return PendingEvents.check(self.caller, batch, self.clock.now_us())

    async def write(
        self, *requests: PendingEvents, lock_seconds: float | None = None
    ) -> Sequence[Outcome | IngestError | StreamError]:
        return await self._writer.write(requests, lock_seconds)
