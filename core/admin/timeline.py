"""The monitoring timeline: reading an organization's events, and following them as they come.

The order is that of ids, which is by time of receipt.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

from msgspec import Struct

from core import ids
from core.journal.journal import MAX_ANSWER_SECONDS
from core.postgres.sessions import Connection

# An id tells when its event was received. The row appears with the commit, which can be as late as
# the request may wait for its answer. So a row can still appear below the newest id, and a follower
# looks back this far.
LATE_SECONDS: Final = MAX_ANSWER_SECONDS + 5.0
MAX_EVENTS_A_POLL: Final = 1_000


class Selection(Struct, frozen=True):
    """The wanted events: an organization's, perhaps of one app or one worker only."""

    organization_id: UUID
    app_id: UUID | None = None
    worker_id: UUID | None = None


class TimelineEvent(Struct, frozen=True):
    """One stored event. ``metadata``: the JSON text as it was sent."""

    id: UUID
    occurred_at: datetime
    event_type: str
    category: str
    duration_seconds: int | None
    metadata: str | None
    app_id: UUID
    app_slug: str
    worker_id: UUID
    worker_name: str

    @property
    def received_us(self) -> int:
        """The time of receipt, in microseconds since the epoch, exact to the millisecond."""
        return ids.created_us(self.id)


# The inner query takes the newest rows off the index before anything is joined to them.
_NEWEST: Final = """
SELECT event.id, occurred_at, event_type, category, duration_seconds, metadata::text,
    apps.id, slug, workers.id, display_name
FROM (
    SELECT * FROM events
    WHERE organization_id = %(organization)s
        AND (%(app)s::uuid IS NULL OR app_id = %(app)s)
        AND (%(worker)s::uuid IS NULL OR worker_id = %(worker)s)
    ORDER BY id DESC
    LIMIT %(limit)s
) AS event
JOIN apps ON apps.organization_id = event.organization_id AND apps.id = app_id
JOIN workers ON workers.organization_id = event.organization_id AND workers.id = worker_id
ORDER BY event.id DESC
"""


async def newest(db: Connection, selection: Selection, limit: int) -> list[TimelineEvent]:
    """The latest events, newest first."""
    cursor = await db.execute(_NEWEST, {**_values(selection), "limit": limit})
    return [TimelineEvent(*row) for row in await cursor.fetchall()]


def _values(selection: Selection) -> dict[str, object]:
    return {
        "organization": selection.organization_id,
        "app": selection.app_id,
        "worker": selection.worker_id,
    }


_NEWEST_ID: Final = """
SELECT id FROM events WHERE organization_id = %s ORDER BY id DESC LIMIT 1
"""

_IDS_SINCE: Final = """
SELECT id FROM events
WHERE organization_id = %(organization)s AND id >= %(since)s
    AND (%(app)s::uuid IS NULL OR app_id = %(app)s)
    AND (%(worker)s::uuid IS NULL OR worker_id = %(worker)s)
"""

_NEWS: Final = """
SELECT event.id, occurred_at, event_type, category, duration_seconds, metadata::text,
    apps.id, slug, workers.id, display_name
FROM (
    SELECT * FROM events
    WHERE organization_id = %(organization)s AND id >= %(since)s
        AND (%(app)s::uuid IS NULL OR app_id = %(app)s)
        AND (%(worker)s::uuid IS NULL OR worker_id = %(worker)s)
        AND NOT EXISTS (SELECT FROM unnest(%(shown)s::uuid[]) AS shown (id)
            WHERE shown.id = events.id)
    ORDER BY id
    LIMIT %(limit)s
) AS event
JOIN apps ON apps.organization_id = event.organization_id AND apps.id = app_id
JOIN workers ON workers.organization_id = event.organization_id AND workers.id = worker_id
ORDER BY event.id
"""


class Follower:
    """Follows a timeline: first :meth:`start`, then :meth:`news` again and again.

    Every event is returned once. Each answer is in the order of ids, but an event that committed
    late comes with the first answer after its commit, perhaps behind one with a higher id. Time is
    taken from the ids, so this machine's clock need not agree with the servers'.
    """

    def __init__(self, db: Connection, selection: Selection) -> None:
        self._db = db
        self._selection = selection
        self._since = UUID(int=0)
        self._shown: set[UUID] = set()

    async def start(self, limit: int) -> list[TimelineEvent]:
        """The latest events, oldest first. Older events count as returned, too."""
        self._look_back_from(await self._newest_id())
        values = {**_values(self._selection), "since": self._since}
        cursor = await self._db.execute(_IDS_SINCE, values)
        self._shown.update(row[0] for row in await cursor.fetchall())
        # An event committed between these two queries is among the latest or is news.
        latest = await newest(self._db, self._selection, limit) if limit else []
        self._shown.update(event.id for event in latest)
        return latest[::-1]

    async def news(self) -> list[TimelineEvent]:
        """The events that have become visible since, at most ``MAX_EVENTS_A_POLL``, by receipt."""
        newest_id = await self._newest_id()
        values = {
            **_values(self._selection),
            "since": self._since,
            "shown": list(self._shown),
            "limit": MAX_EVENTS_A_POLL,
        }
        events = [
            TimelineEvent(*row) for row in await (await self._db.execute(_NEWS, values)).fetchall()
        ]
        self._shown.update(event.id for event in events)
        # After a full answer there may be more: go on from its end.
        is_full = len(events) == MAX_EVENTS_A_POLL
        self._look_back_from(events[-1].id if is_full else newest_id)
        return events

    async def _newest_id(self) -> UUID | None:
        row = await (
            await self._db.execute(_NEWEST_ID, (self._selection.organization_id,))
        ).fetchone()
        return None if row is None else row[0]

    def _look_back_from(self, newest_id: UUID | None) -> None:
        if newest_id is None:
            return
        since_us = ids.created_us(newest_id) - round(LATE_SECONDS * 1_000_000)
        self._since = max(self._since, ids.first_at(max(since_us, 0)))
        self._shown = {shown for shown in self._shown if shown >= self._since}
