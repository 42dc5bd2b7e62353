"""The erasure of a worker: the person's data goes, and events and numbers stay as nobody's.

First the person loses name, e-mails and links, at one moment for every server
(core/journal/worker_changes.py): from then on an event with one of them is about somebody new. Then
the content that may tell of the person is erased in short transactions.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import Struct

from core import ids
from core.admin import worker_merge
from core.admin.cell_sessions import CellSession
from core.admin.errors import AdministrationError, NotFoundError
from core.admin.event_blocks import event_blocks
from core.admin.worker_activity import names
from core.admin.worker_lock import alone
from core.journal.rejections import FLUSH_SECONDS
from core.postgres.audit import Change
from core.postgres.sessions import Connection
from core.timestamps import to_datetime

ERASED_NAME: Final = "erased worker"
# Until servers have written the rejections that they had noted before.
REJECTIONS_SECONDS: Final = 2 * FLUSH_SECONDS
MAX_EVENTS_AT_ONCE: Final = 20_000  # looked at in a transaction
MAX_SNAPSHOTS_AT_ONCE: Final = 500  # read, and changed in a transaction


class Erased(Struct, frozen=True):
    """The receipt: the rows from which the person was erased by this run, by their kind.

    ``names``: workers, the person's and those merged into it. ``event_contents`` and
    ``snapshot_contents``: metadata, and texts among the metrics. ``rejected_items``: kept content
    of refused items, which is the whole organization's: nobody can tell whose it is.
    """

    names: int
    emails: int
    links: int
    event_contents: int
    snapshot_contents: int
    idempotency_receipts: int
    rejected_items: int


async def erase(
    cell: CellSession,
    organization_id: UUID,
    worker_id: UUID,
    now_us: int,
    *,
    keep_content: bool = False,
) -> Erased:
    """Erase a worker; returns what was erased.

    ``keep_content``: metadata and texts among metrics stay as they are. If this is stopped
    half-way, it can be run again to finish. NotFoundError if there is no such worker.
    """
    change = Change("worker.erase", organization_id, ids.text(ids.WORKER, worker_id))
    async with cell.recording_steps(change):
        async with alone(cell, organization_id):
            of_names = await _take_names(cell.db, organization_id, worker_id, now_us)
        merged = await names(cell.db, organization_id, worker_id)
        for merged_id in merged:
            if merged_id != worker_id:
                await worker_merge.move_rows(cell.db, organization_id, merged_id)
        contents = (0, 0)
        if not keep_content:
            contents = (
                await _erase_events(cell.db, organization_id, worker_id),
                await _erase_snapshots(cell.db, organization_id, worker_id),
            )
        receipts = await _rename_receipts(cell.db, organization_id, merged)
        await asyncio.sleep(REJECTIONS_SECONDS)
        items = (await cell.db.execute(_ERASE_ITEMS, (organization_id,))).rowcount
        erased = Erased(*of_names, *contents, receipts, items)
        change.before = {"contentKept": keep_content, **msgspec.structs.asdict(erased)}
    return erased


_LOCK: Final = """
SELECT id, merged_into, email IS NOT NULL, display_name <> %s FROM workers
WHERE organization_id = %s AND (id = %s OR merged_into = %s)
ORDER BY id FOR UPDATE
"""
_ERASE_NAMES: Final = """
UPDATE workers SET display_name = %s, email = NULL, email_key = NULL,
    erased_at = COALESCE(erased_at, %s)
WHERE organization_id = %s AND id = ANY (%s)
"""
_REMOVE_LINKS: Final = """
DELETE FROM worker_links WHERE organization_id = %s AND worker_id = ANY (%s)
"""


async def _take_names(
    db: Connection, organization_id: UUID, worker_id: UUID, now_us: int
) -> tuple[int, int, int]:
    """Erase names, e-mails and links; returns how many of each there were."""
    values = (ERASED_NAME, organization_id, worker_id, worker_id)
    rows = await (await db.execute(_LOCK, values)).fetchall()
    targets = {row[0]: row[1] for row in rows}
    if worker_id not in targets:
        raise NotFoundError(f"there is no worker {ids.text(ids.WORKER, worker_id)}")
    if targets[worker_id] is not None:
        raise AdministrationError(
            f"the worker was merged into {ids.text(ids.WORKER, targets[worker_id])} meanwhile: "
            "erase that one"
        )
    erased = (ERASED_NAME, to_datetime(now_us), organization_id, list(targets))
    await db.execute(_ERASE_NAMES, erased)
    links = (await db.execute(_REMOVE_LINKS, (organization_id, list(targets)))).rowcount
    return sum(row[3] for row in rows), sum(row[2] for row in rows), links


_ERASE_EVENTS: Final = """
UPDATE events SET metadata = NULL
WHERE organization_id = %s AND worker_id = %s AND id > %s AND id <= %s AND metadata IS NOT NULL
"""
# In the order of the index by card.
_SNAPSHOTS: Final = """
SELECT app_id, snapshot_type, occurred_at, id, metrics::text, metadata IS NOT NULL
FROM snapshot_history
WHERE organization_id = %(organization)s AND worker_id = %(worker)s AND (%(app)s::uuid IS NULL
    OR (app_id, snapshot_type, occurred_at, id) > (%(app)s, %(type)s, %(occurred)s, %(id)s))
ORDER BY app_id, snapshot_type, occurred_at, id
LIMIT %(most)s
"""
_ERASE_SNAPSHOTS: Final = """
UPDATE snapshot_history AS history SET metrics = erased.metrics::json, metadata = NULL
FROM unnest(%s::uuid[], %s::text[]) AS erased (id, metrics)
WHERE history.organization_id = %s AND history.id = erased.id
"""
# An equal request is answered with the worker's name once more.
_RENAME_RECEIPTS: Final = """
UPDATE idempotency_keys
SET receipt = jsonb_set(receipt::jsonb, '{worker,display_name}', to_jsonb(%(name)s::text))::json
WHERE organization_id = %(organization)s AND endpoint = 'snapshots'
    AND receipt #>> '{worker,id}' = ANY (%(workers)s)
    AND receipt #>> '{worker,display_name}' <> %(name)s
"""
_ERASE_ITEMS: Final = """
UPDATE rejections SET item = NULL WHERE organization_id = %s AND item IS NOT NULL
"""


async def _erase_events(db: Connection, organization_id: UUID, worker_id: UUID) -> int:
    erased = 0
    async for block in event_blocks(db, organization_id, MAX_EVENTS_AT_ONCE):
        values = (organization_id, worker_id, *block)
        erased += (await db.execute(_ERASE_EVENTS, values)).rowcount
    return erased


async def _erase_snapshots(db: Connection, organization_id: UUID, worker_id: UUID) -> int:
    erased = 0
    values: dict[str, Any] = dict.fromkeys(("app", "type", "occurred", "id"))
    values |= {"organization": organization_id, "worker": worker_id, "most": MAX_SNAPSHOTS_AT_ONCE}
    while rows := await (await db.execute(_SNAPSHOTS, values)).fetchall():
        nameless = {
            its_id: numbers
            for *_, its_id, metrics, has_metadata in rows
            if (numbers := _without_texts(metrics)) != metrics or has_metadata
        }
        changed = (list(nameless), list(nameless.values()), organization_id)
        erased += (await db.execute(_ERASE_SNAPSHOTS, changed)).rowcount
        values |= dict(zip(("app", "type", "occurred", "id"), rows[-1], strict=False))
    return erased


def _without_texts(metrics: str) -> str:
    """The metrics without those that are texts, and without labels; numbers to the last digit."""
    kept: dict[str, msgspec.Raw] = {}
    has_texts = False
    for name, raw in msgspec.json.decode(metrics, type=dict[str, msgspec.Raw]).items():
        text = bytes(raw)
        if text.startswith(b'"'):
            has_texts = True
            continue
        if text.startswith(b"{"):
            members = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
            if members.pop("label", None) is not None:
                has_texts, raw = True, msgspec.Raw(msgspec.json.encode(members))
        kept[name] = raw
    return msgspec.json.encode(kept).decode() if has_texts else metrics


async def _rename_receipts(db: Connection, organization_id: UUID, workers: list[UUID]) -> int:
    values = {
        "name": ERASED_NAME,
        "organization": organization_id,
        "workers": list(map(str, workers)),
    }
    return (await db.execute(_RENAME_RECEIPTS, values)).rowcount
