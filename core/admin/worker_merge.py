"""The merge of two workers who are one person: all that is one's becomes the other's.

First the names change hands, at one moment for every server (core/journal/worker_changes.py): the
links are moved, and the merged worker stays as another name of the other, by its id and its
e-mail. From then on nothing is written for it. Then its rows are moved, in short transactions.
"""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from msgspec import Struct

from core import ids
from core.admin.cell_sessions import CellSession
from core.admin.errors import AdministrationError, InvalidValueError, NotFoundError
from core.admin.event_blocks import event_blocks
from core.admin.worker_lock import alone
from core.journal import snapshots
from core.postgres.audit import Change
from core.postgres.pipeline import send
from core.postgres.sessions import Connection

MAX_MOVED_AT_ONCE: Final = 20_000  # events looked at in a transaction; others wait for none of it
MAX_SNAPSHOTS_AT_ONCE: Final = 1_000  # or cards, moved in a transaction


class Moved(Struct, frozen=True):
    """The rows that became another worker's."""

    links: int
    events: int
    snapshots: int


async def merge(cell: CellSession, organization_id: UUID, from_id: UUID, into_id: UUID) -> Moved:
    """Merge a worker into another one; returns what was moved.

    If this is stopped half-way, it can be run again to finish. NotFoundError if there is no such
    worker, InvalidValueError for one and the same, AdministrationError if either was erased or
    merged into yet another one.
    """
    if from_id == into_id:
        raise InvalidValueError("a worker cannot be merged into itself")
    change = Change("worker.merge", organization_id, ids.text(ids.WORKER, from_id), before={})
    async with cell.recording_steps(change):
        async with alone(cell, organization_id):
            links = await _change_names(cell.db, organization_id, from_id, into_id)
        events, moved = await move_rows(cell.db, organization_id, from_id)
        change.after = {
            "mergedInto": ids.text(ids.WORKER, into_id),
            "links": links,
            "events": events,
            "snapshots": moved,
        }
    return Moved(links, events, moved)


_LOCK: Final = """
SELECT id, email, email_key, merged_into, erased_at FROM workers
WHERE organization_id = %s AND id = ANY (%s)
ORDER BY id FOR UPDATE
"""
_MERGE: Final = """
UPDATE workers SET merged_into = %(into)s
WHERE organization_id = %(organization)s AND (id = %(from)s OR merged_into = %(from)s)
"""
_DROP_EMAIL: Final = """
UPDATE workers SET email = NULL, email_key = NULL WHERE organization_id = %s AND id = %s
"""
_SET_EMAIL: Final = """
UPDATE workers SET email = %s, email_key = %s WHERE organization_id = %s AND id = %s
"""
_MOVE_LINKS: Final = """
UPDATE worker_links SET worker_id = %s WHERE organization_id = %s AND worker_id = %s
"""


async def _change_names(db: Connection, organization_id: UUID, from_id: UUID, into_id: UUID) -> int:
    """Have every name of the one lead to the other; returns the number of links moved."""
    cursor = await db.execute(_LOCK, (organization_id, [from_id, into_id]))
    rows = {row[0]: row[1:] for row in await cursor.fetchall()}
    for worker_id, may_be in ((from_id, (None, into_id)), (into_id, (None,))):
        if worker_id not in rows:
            raise NotFoundError(f"there is no worker {ids.text(ids.WORKER, worker_id)}")
        _, _, merged_into, erased_at = rows[worker_id]
        if erased_at is not None:
            raise AdministrationError(f"the worker {ids.text(ids.WORKER, worker_id)} was erased")
        if merged_into not in may_be:
            raise AdministrationError(
                f"the worker {ids.text(ids.WORKER, worker_id)} was merged into "
                f"{ids.text(ids.WORKER, merged_into)} before"
            )
    await db.execute(_MERGE, {"organization": organization_id, "from": from_id, "into": into_id})
    email, email_key = rows[from_id][:2]
    if email is not None and rows[into_id][0] is None:
        await db.execute(_DROP_EMAIL, (organization_id, from_id))
        await db.execute(_SET_EMAIL, (email, email_key, organization_id, into_id))
    return (await db.execute(_MOVE_LINKS, (into_id, organization_id, from_id))).rowcount


# Locked for the transaction, so that another merge goes on with all that was moved before.
_TARGET: Final = """
SELECT merged_into FROM workers WHERE organization_id = %s AND id = %s FOR SHARE
"""
_MOVE_EVENTS: Final = """
UPDATE events SET worker_id = %s
WHERE organization_id = %s AND worker_id = %s AND id > %s AND id <= %s
"""
_MOVE_SNAPSHOTS: Final = """
UPDATE snapshot_history SET worker_id = %(into)s
WHERE organization_id = %(organization)s AND id = ANY (ARRAY(
    SELECT id FROM snapshot_history
    WHERE organization_id = %(organization)s AND worker_id = %(from)s LIMIT %(most)s))
"""
_CARDS: Final = """
SELECT app_id, snapshot_type, snapshot_id, occurred_at, received_at FROM snapshot_cards
WHERE organization_id = %(organization)s AND worker_id = %(from)s
ORDER BY app_id, snapshot_type LIMIT %(most)s
FOR UPDATE
"""
_REMOVE_CARDS: Final = """
DELETE FROM snapshot_cards
WHERE organization_id = %s AND worker_id = %s
    AND (app_id, snapshot_type) IN (SELECT * FROM unnest(%s::uuid[], %s::text[]))
"""


async def move_rows(db: Connection, organization_id: UUID, from_id: UUID) -> tuple[int, int]:
    """Move a merged worker's events and snapshots to the worker it was merged into.

    Returns how many of each. Nothing is written for it any more, so one pass finds all.
    """
    events = 0
    async for block in event_blocks(db, organization_id, MAX_MOVED_AT_ONCE):
        async with db.transaction():
            into = await _target(db, organization_id, from_id)
            values = (into, organization_id, from_id, *block)
            events += (await db.execute(_MOVE_EVENTS, values)).rowcount
    moved, last = 0, -1
    while last:
        async with db.transaction():
            last = await _move_snapshots(db, organization_id, from_id)
        moved += last
    while await _move_cards(db, organization_id, from_id):
        pass
    return events, moved


async def _target(db: Connection, organization_id: UUID, from_id: UUID) -> UUID:
    row = await (await db.execute(_TARGET, (organization_id, from_id))).fetchone()
    if row is None or row[0] is None:  # the organization is being removed
        raise NotFoundError(f"there is no merged worker {ids.text(ids.WORKER, from_id)}")
    assert isinstance(row[0], UUID)
    return row[0]


async def _move_snapshots(db: Connection, organization_id: UUID, from_id: UUID) -> int:
    values: dict[str, Any] = {
        "organization": organization_id,
        "from": from_id,
        "into": await _target(db, organization_id, from_id),
        "most": MAX_SNAPSHOTS_AT_ONCE,
    }
    return (await db.execute(_MOVE_SNAPSHOTS, values)).rowcount


async def _move_cards(db: Connection, organization_id: UUID, from_id: UUID) -> bool:
    """Move some cards, of which the newest of each app and type stays; whether there were any."""
    async with db.transaction():
        into = await _target(db, organization_id, from_id)
        values = {"organization": organization_id, "from": from_id, "most": MAX_SNAPSHOTS_AT_ONCE}
        cards = await (await db.execute(_CARDS, values)).fetchall()
        if cards:
            newest = [(organization_id, into, *card) for card in cards]
            await send(db, [snapshots.replace_cards(newest)])
            columns = ([card[0] for card in cards], [card[1] for card in cards])
            await db.execute(_REMOVE_CARDS, (organization_id, from_id, *columns))
    return bool(cards)
