"""The monitoring timeline: reading an organization's events, and following them as they come.

The order is that of ids, which is by time of receipt.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import Final
from uuid import UUID

from msgspec import Struct

from core import ids
from core.postgres.sessions import Connection
from core.timestamps import from_datetime

# An id tells when its event was received. The row appears with the commit, which can be later than
# the answer that its request was given at last. So a row can still appear below the newest id, and
# a follower looks back this far.
LATE_SECONDS: Final = 60.0
MAX_EVENTS_A_POLL: Final = 1_000
DAY_US: Final = 86_400_000_000


class Selection(Struct, frozen=True):
    """The wanted events: an organization's, perhaps only those that have what is given.

    ``day``: the one on which they were received, in UTC.
    """

    organization_id: UUID
    app_id: UUID | None = None
    worker_id: UUID | None = None
    event_type: str | None = None
    category: str | None = None
    day: date | None = None

    def first_id(self) -> UUID:
        """The smallest id that a wanted event can have."""
        return ids.NIL if self.day is None else ids.first_at(_day_start_us(self.day))

    def end_id(self) -> UUID:
        """The smallest id that is beyond those of the wanted events."""
        return ids.MAX if self.day is None else ids.first_at(_day_start_us(self.day) + DAY_US)


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


def _day_start_us(day: date) -> int:
    return max(from_datetime(datetime.combine(day, time(), UTC)), 0)  # ids begin in 1970


_WANTED: Final = """
    organization_id = %(organization)s AND id >= %(first)s AND id < %(end)s
    AND (%(app)s::uuid IS NULL OR app_id = %(app)s)
    AND (%(worker)s::uuid IS NULL OR worker_id = %(worker)s)
    AND (%(event_type)s::text IS NULL OR event_type = %(event_type)s)
    AND (%(category)s::text IS NULL OR category = %(category)s)
"""

# The inner query takes the newest rows off the index before anything is joined to them.
_NEWEST: Final = f"""
SELECT event.id, occurred_at, event_type, category, duration_seconds, metadata::text,
    apps.id, slug, workers.id, display_name
FROM (
    SELECT * FROM events
    WHERE {_WANTED}
    ORDER BY id DESC
    LIMIT %(limit)s
) AS event
JOIN apps ON apps.organization_id = event.organization_id AND apps.id = app_id
JOIN workers ON workers.organization_id = event.organization_id AND workers.id = worker_id
ORDER BY event.id DESC
"""  # noqa: S608 -- of constants


async def newest(
    db: Connection, selection: Selection, limit: int, before: UUID | None = None
) -> list[TimelineEvent]:
    """The latest events, newest first; ``before``: only those with smaller ids than this one."""
    values = _values(selection)
    if before is not None:
        values["end"] = min(before, selection.end_id())
    cursor = await db.execute(_NEWEST, {**values, "limit": limit})
    return [TimelineEvent(*row) for row in await cursor.fetchall()]


def _values(selection: Selection, since: UUID = ids.NIL) -> dict[str, object]:
    return {
        "organization": selection.organization_id,
        "first": max(since, selection.first_id()),
        "end": selection.end_id(),
        "app": selection.app_id,
        "worker": selection.worker_id,
        "event_type": selection.event_type,
        "category": selection.category,
    }


_NEWEST_ID: Final = """
SELECT (SELECT id FROM events WHERE organization_id = %s ORDER BY id DESC LIMIT 1),
    clock_timestamp()
"""

_IDS: Final = f"SELECT id FROM events WHERE {_WANTED}"  # noqa: S608 -- of constants

_NEWS: Final = f"""
SELECT event.id, occurred_at, event_type, category, duration_seconds, metadata::text,
    apps.id, slug, workers.id, display_name
FROM (
    SELECT * FROM events
    WHERE {_WANTED}
        AND NOT EXISTS (SELECT FROM unnest(%(shown)s::uuid[]) AS shown (id)
            WHERE shown.id = events.id)
    ORDER BY id
    LIMIT %(limit)s
) AS event
JOIN apps ON apps.organization_id = event.organization_id AND apps.id = app_id
JOIN workers ON workers.organization_id = event.organization_id AND workers.id = worker_id
ORDER BY event.id
"""  # noqa: S608 -- of constants


class Follower:
    """Follows a timeline: first :meth:`start`, then :meth:`news` again and again.

    Every event is returned once. Each answer is in the order of ids, but an event that committed
    late comes with the first answer after its commit, perhaps behind one with a higher id. Time is
    taken from the ids, and from the database where they are ahead of it: neither this machine's
    clock nor a wrong one of a server makes it leave events out. No session is held in between.
    """

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self._since = ids.NIL
        self._shown: set[UUID] = set()

    async def start(self, db: Connection, limit: int) -> list[TimelineEvent]:
        """The latest events, oldest first. Older events count as returned, too."""
        self._look_back_from(*await _newest(db, self._selection))
        cursor = await db.execute(_IDS, _values(self._selection, self._since))
        self._shown.update(row[0] for row in await cursor.fetchall())
        # An event committed between these two queries is among the latest or is news.
        latest = await newest(db, self._selection, limit) if limit else []
        self._shown.update(event.id for event in latest)
        return latest[::-1]

    async def news(self, db: Connection) -> list[TimelineEvent]:
        """The events that have become visible since, at most ``MAX_EVENTS_A_POLL``, by receipt."""
        newest_id, now = await _newest(db, self._selection)
        values = {
            **_values(self._selection, self._since),
            "shown": list(self._shown),
            "limit": MAX_EVENTS_A_POLL,
        }
        events = [TimelineEvent(*row) for row in await (await db.execute(_NEWS, values)).fetchall()]
        self._shown.update(event.id for event in events)
        # After a full answer there may be more: go on from its end.
        is_full = len(events) == MAX_EVENTS_A_POLL
        self._look_back_from(events[-1].id if is_full else newest_id, now)
        return events

    def _look_back_from(self, newest_id: UUID | None, now: datetime) -> None:
        if newest_id is None:
            return
        self._since = max(self._since, _late_since(newest_id, now))
        self._shown = {shown for shown in self._shown if shown >= self._since}


async def _newest(db: Connection, selection: Selection) -> tuple[UUID | None, datetime]:
    """The newest id of the organization, if there is one, and the database's time."""
    row = await (await db.execute(_NEWEST_ID, (selection.organization_id,))).fetchone()
    assert row is not None
    return row[0], row[1]


def _late_since(newest_id: UUID, now: datetime) -> UUID:
    """The smallest id that an event can have which still appears."""
    latest_us = min(ids.created_us(newest_id), from_datetime(now))
    return ids.first_at(max(latest_us - round(LATE_SECONDS * 1_000_000), 0))


class Latest:
    """The latest events again and again, for a page that shows a few: :meth:`news` at each look.

    Of more than ``limit`` events between two looks the older ones are left out, where a
    :class:`Follower` would tell all of them. So a look costs the same however many come.
    """

    def __init__(self, selection: Selection, limit: int) -> None:
        self._selection = selection
        self._limit = limit
        self._since = ids.NIL
        self._told: set[UUID] = set()

    async def news(self, db: Connection) -> list[TimelineEvent]:
        """The events among the latest that were not told before, oldest first."""
        newest_id, now = await _newest(db, self._selection)
        values = {**_values(self._selection, self._since), "limit": self._limit}
        cursor = await db.execute(_NEWEST, values)
        events = [TimelineEvent(*row) for row in await cursor.fetchall()]
        news = [event for event in events if event.id not in self._told]
        if newest_id is not None:
            self._since = max(self._since, _late_since(newest_id, now))
        self._told = {told for told in self._told if told >= self._since}
        self._told.update(event.id for event in events)
        return news[::-1]
