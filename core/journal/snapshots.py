"""Snapshots: their history, and the newest of each type as the worker's current card."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final
from uuid import UUID

from msgspec import Struct

from core.postgres.pipeline import Command, Statement, as_records
from core.rules.snapshot import CheckedSnapshot
from core.timestamps import to_datetime


class SnapshotRow(Struct, frozen=True):
    """A snapshot as it is stored, with its worker."""

    organization_id: UUID
    app_id: UUID
    id: UUID
    worker_id: UUID
    received_us: int
    checked: CheckedSnapshot

    @property
    def card(self) -> tuple[UUID, UUID, UUID, str]:
        """The card it is a version of. Sorts, for a fixed lock order."""
        return (self.organization_id, self.worker_id, self.app_id, self.checked.snapshot_type)

    @property
    def rank(self) -> tuple[int, int]:
        """The greatest is the card: the newest timestamp, and of equal ones the later arrival.

        A timestamp of the future counts as the time of receipt: a wrong clock pins no card.
        """
        return (min(self.checked.occurred_us, self.received_us), self.received_us)


_INSERT_HISTORY: Final = Statement(
    "insert_snapshots",
    "json",
    """
INSERT INTO snapshot_history (
    organization_id, app_id, id, worker_id, snapshot_type, occurred_at, metrics, metadata)
SELECT organization_id, app_id, id, worker_id, snapshot_type, occurred_at,
    metrics::json, metadata::json
FROM json_to_recordset($1) AS arrived (
    organization_id uuid, app_id uuid, id uuid, worker_id uuid, snapshot_type text,
    occurred_at timestamptz, metrics text, metadata text)
""",
)

# The rank of a row, as SnapshotRow.rank. An equal one is replaced: it arrived in the same instant,
# and was committed before.
_REPLACE_CARDS: Final = Statement(
    "replace_cards",
    "json",
    """
INSERT INTO snapshot_cards AS card (
    organization_id, worker_id, app_id, snapshot_type, snapshot_id, occurred_at, received_at)
SELECT organization_id, worker_id, app_id, snapshot_type, id, occurred_at, received_at
FROM json_to_recordset($1) AS newest (
    organization_id uuid, app_id uuid, id uuid, worker_id uuid, snapshot_type text,
    occurred_at timestamptz, received_at timestamptz)
ORDER BY 1, 2, 3, 4
ON CONFLICT (organization_id, worker_id, app_id, snapshot_type) DO UPDATE SET
    snapshot_id = excluded.snapshot_id, occurred_at = excluded.occurred_at,
    received_at = excluded.received_at
WHERE (LEAST(excluded.occurred_at, excluded.received_at), excluded.received_at)
    >= (LEAST(card.occurred_at, card.received_at), card.received_at)
""",
)


CARD_COLUMNS: Final = (
    *("organization_id", "worker_id", "app_id", "snapshot_type"),
    *("id", "occurred_at", "received_at"),
)


def replace_cards(newest: Iterable[Sequence[object]]) -> Command:
    """Make snapshots, as rows of ``CARD_COLUMNS``, the cards where these are older."""
    return Command(_REPLACE_CARDS, as_records(CARD_COLUMNS, newest))


def store(arrived: Sequence[SnapshotRow]) -> list[Command]:
    """Add snapshots, in order of arrival, to the history and make the newest the cards."""
    if not arrived:
        return []
    newest: dict[tuple[UUID, UUID, UUID, str], SnapshotRow] = {}
    for row in arrived:
        current = newest.get(row.card)
        if current is None or row.rank >= current.rank:
            newest[row.card] = row
    return [
        Command(_INSERT_HISTORY, _records(arrived)),
        replace_cards(
            (*row.card, row.id, to_datetime(row.checked.occurred_us), to_datetime(row.received_us))
            for row in newest.values()
        ),
    ]


def _records(snapshots: Iterable[SnapshotRow]) -> str:
    # JSON texts are strings in it, so that they stay as they are, to the last digit.
    whose = ("organization_id", "app_id", "id", "worker_id")
    return as_records(
        (*whose, "snapshot_type", "occurred_at", "metrics", "metadata"),
        [
            (
                *(getattr(row, name) for name in whose),
                row.checked.snapshot_type,
                to_datetime(row.checked.occurred_us),
                row.checked.metrics,
                row.checked.metadata,
            )
            for row in snapshots
        ],
    )
