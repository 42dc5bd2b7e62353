"""Snapshots as operators read them: the current cards and their history."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

from msgspec import Struct

from core import ids
from core.postgres.sessions import Connection


class StoredSnapshot(Struct, frozen=True):
    """A stored snapshot. ``metrics`` and ``metadata``: the JSON texts as sent.

    ``is_card``: whether it is the current card, which no other has replaced.
    """

    id: UUID
    snapshot_type: str
    occurred_at: datetime
    metrics: str
    metadata: str | None
    is_card: bool
    app_id: UUID
    app_slug: str
    worker_id: UUID
    worker_name: str

    @property
    def received_us(self) -> int:
        """The time of receipt, in microseconds since the epoch, exact to the millisecond."""
        return ids.created_us(self.id)


_CARDS: Final = """
SELECT snapshot.id, snapshot.snapshot_type, snapshot.occurred_at, metrics::text, metadata::text,
    true, apps.id, slug, workers.id, display_name
FROM snapshot_cards AS card
JOIN snapshot_history AS snapshot ON snapshot.organization_id = card.organization_id
    AND snapshot.id = snapshot_id
JOIN apps ON apps.organization_id = card.organization_id AND apps.id = card.app_id
JOIN workers ON workers.organization_id = card.organization_id AND workers.id = card.worker_id
WHERE card.organization_id = %(organization)s
    AND (%(worker)s::uuid IS NULL OR card.worker_id = %(worker)s)
ORDER BY display_name, workers.id, snapshot.snapshot_type, slug
"""


async def cards(
    db: Connection, organization_id: UUID, worker_id: UUID | None = None
) -> list[StoredSnapshot]:
    """The current cards of an organization or of one of its workers, by worker and type."""
    cursor = await db.execute(_CARDS, {"organization": organization_id, "worker": worker_id})
    return [StoredSnapshot(*row) for row in await cursor.fetchall()]


_CARDS_PAGE: Final = """
SELECT snapshot.id, card.snapshot_type, snapshot.occurred_at, metrics::text, metadata::text,
    true, apps.id, slug, workers.id, display_name
FROM (
    SELECT * FROM snapshot_cards
    WHERE organization_id = %(organization)s
        AND (worker_id, app_id, snapshot_type) > (%(worker)s, %(app)s, %(type)s)
        AND (%(only)s::uuid IS NULL OR worker_id = %(only)s)
    ORDER BY worker_id, app_id, snapshot_type
    LIMIT %(limit)s
) AS card
JOIN snapshot_history AS snapshot ON snapshot.organization_id = card.organization_id
    AND snapshot.id = snapshot_id
JOIN apps ON apps.organization_id = card.organization_id AND apps.id = card.app_id
JOIN workers ON workers.organization_id = card.organization_id AND workers.id = card.worker_id
ORDER BY card.worker_id, card.app_id, card.snapshot_type
"""


class CardKey(Struct, frozen=True):
    """The place of a card among an organization's, which are in this order."""

    worker_id: UUID
    app_id: UUID
    snapshot_type: str

    @classmethod
    def of(cls, card: StoredSnapshot) -> CardKey:
        """The place of the card."""
        return cls(card.worker_id, card.app_id, card.snapshot_type)


_BEFORE_ALL: Final = CardKey(ids.NIL, ids.NIL, "")


async def cards_page(
    db: Connection,
    organization_id: UUID,
    worker_id: UUID | None,
    limit: int,
    after: CardKey | None = None,
) -> list[StoredSnapshot]:
    """The current cards after that one, by worker, app and type, each in the order of its key.

    ``worker_id``: None for all workers.
    """
    after = after or _BEFORE_ALL
    values = {
        "organization": organization_id,
        "only": worker_id,
        "worker": after.worker_id if worker_id is None else max(after.worker_id, worker_id),
        "app": after.app_id,
        "type": after.snapshot_type,
        "limit": limit,
    }
    rows = await (await db.execute(_CARDS_PAGE, values)).fetchall()
    return [StoredSnapshot(*row) for row in rows]


_HISTORY: Final = """
SELECT snapshot.id, snapshot.snapshot_type, snapshot.occurred_at, metrics::text, metadata::text,
    snapshot.id IS NOT DISTINCT FROM snapshot_id, apps.id, slug, workers.id, display_name
FROM (
    SELECT * FROM snapshot_history
    WHERE organization_id = %(organization)s AND id < %(before)s
        AND (%(worker)s::uuid IS NULL OR worker_id = %(worker)s)
    ORDER BY id DESC
    LIMIT %(limit)s
) AS snapshot
JOIN apps ON apps.organization_id = snapshot.organization_id AND apps.id = snapshot.app_id
JOIN workers ON workers.organization_id = snapshot.organization_id
    AND workers.id = snapshot.worker_id
LEFT JOIN snapshot_cards AS card ON card.organization_id = snapshot.organization_id
    AND card.worker_id = snapshot.worker_id AND card.app_id = snapshot.app_id
    AND card.snapshot_type = snapshot.snapshot_type
ORDER BY snapshot.id DESC
"""


async def history(
    db: Connection,
    organization_id: UUID,
    worker_id: UUID | None,
    limit: int,
    before: UUID | None = None,
) -> list[StoredSnapshot]:
    """The latest snapshots, cards and replaced ones, the last received first.

    ``worker_id``: None for all workers. ``limit``: the greatest number of snapshots. ``before``:
    only those with smaller ids than this one.
    """
    values = {
        "organization": organization_id,
        "worker": worker_id,
        "limit": limit,
        "before": before or ids.MAX,
    }
    return [StoredSnapshot(*row) for row in await (await db.execute(_HISTORY, values)).fetchall()]
