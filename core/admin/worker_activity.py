"""A worker's events and snapshots in numbers, counted within a bound."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from msgspec import Struct

from core import ids
from core.postgres.sessions import Connection

# Events have no index by worker: a look reads so many of the organization's latest, in some
# seconds. Snapshots have one, and are counted up to this number.
MAX_LOOKED_AT: Final = 1_000_000


class Activity(Struct, frozen=True):
    """The events and snapshots of a worker, and the first and the last event (microseconds).

    ``is_whole``: False if the organization has more events than were looked at, so that these are
    those among its latest ``MAX_LOOKED_AT``.
    """

    events: int
    snapshots: int
    first_event_us: int | None
    last_event_us: int | None
    is_whole: bool


_NAMES: Final = """
SELECT id FROM workers WHERE organization_id = %s AND (id = %s OR merged_into = %s)
"""
# By the text of ids, for which PostgreSQL before 18 has min and max.
_EVENTS: Final = """
SELECT count(*), count(*) FILTER (WHERE is_theirs),
    min(id::text COLLATE "C") FILTER (WHERE is_theirs),
    max(id::text COLLATE "C") FILTER (WHERE is_theirs)
FROM (
    SELECT id, worker_id = ANY (%(workers)s) AS is_theirs FROM events
    WHERE organization_id = %(organization)s
    ORDER BY id DESC LIMIT %(most)s
) AS latest
"""
_SNAPSHOTS: Final = """
SELECT count(*) FROM (
    SELECT FROM snapshot_history
    WHERE organization_id = %(organization)s AND worker_id = ANY (%(workers)s)
    LIMIT %(most)s
) AS counted
"""


async def names(db: Connection, organization_id: UUID, worker_id: UUID) -> list[UUID]:
    """The worker's id, and those of the workers that were merged into it."""
    cursor = await db.execute(_NAMES, (organization_id, worker_id, worker_id))
    return [row[0] for row in await cursor.fetchall()]


async def activity(db: Connection, organization_id: UUID, worker_id: UUID) -> Activity:
    """The activity of a worker, with what was merged into it and is not moved yet."""
    values = {
        "organization": organization_id,
        "workers": await names(db, organization_id, worker_id),
        "most": MAX_LOOKED_AT,
    }
    of_events = await (await db.execute(_EVENTS, values)).fetchone()
    of_snapshots = await (await db.execute(_SNAPSHOTS, values)).fetchone()
    assert of_events is not None
    assert of_snapshots is not None
    looked_at, events, first, last = of_events
    return Activity(
        events,
        of_snapshots[0],
        first and ids.created_us(UUID(first)),
        last and ids.created_us(UUID(last)),
        looked_at < MAX_LOOKED_AT,
    )
