"""Snapshots: the rules of one, its history, and which of them is the current card."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from msgspec import Struct

from core import ids, json_objects, limits, validation
from core.database import Connection
from core.errors import ErrorCode, IngestError
from core.events import Caller, Snapshot, WorkerName
from core.statements import Call, Statement, as_records
from core.timestamps import to_datetime

MAX_METRIC_NAME_SHOWN_CHARACTERS: Final = 100


class CheckedSnapshot(Struct, frozen=True):
    """A snapshot that passed the rules; whether its worker exists is for the database."""

    snapshot_type: str
    worker_name: WorkerName
    occurred_us: int
    metrics: str
    metadata: str | None


class SnapshotRow(Struct, frozen=True):
    """A snapshot with its worker: what is stored."""

    organization_id: UUID
    app_id: UUID
    id: UUID
    worker_id: UUID
    checked: CheckedSnapshot

    @property
    def card(self) -> tuple[UUID, UUID, UUID, str]:
        """Which card it is a version of. Sorts, for a fixed lock order."""
        return (self.organization_id, self.worker_id, self.app_id, self.checked.snapshot_type)


def check_snapshot(caller: Caller, snapshot: Snapshot, received_us: int) -> CheckedSnapshot:
    """Judge a snapshot, in the order of contract section 5; raises the first failure.

    A snapshot type needs no whitelisting: the whitelist is of event types.
    """
    issues = _issues(snapshot)
    if issues:
        raise IngestError(ErrorCode.INVALID_BODY, validation.issues_message(issues))
    actor = snapshot.actor
    name = None if actor is None else validation.worker_name(actor, caller)
    if name is None:
        raise IngestError(ErrorCode.MISSING_ACTOR, validation.NO_ACTOR)
    metadata = None if snapshot.metadata is None else json_objects.storable(snapshot.metadata)
    return CheckedSnapshot(
        snapshot.snapshot_type,
        name,
        received_us if snapshot.timestamp is None else validation.moment(snapshot.timestamp)[0],
        json_objects.storable(snapshot.metrics).decode(),
        metadata if metadata is None else metadata.decode(),
    )


def _issues(snapshot: Snapshot) -> list[str]:
    try:
        metrics = json_objects.parse(snapshot.metrics)[1]
        metric_issues = [
            issue for name, metric in metrics.items() for issue in _metric_issues(name, metric)
        ]
    except ValueError as error:
        metric_issues = [f"metrics: {error}"]
    return [
        *validation.issue("snapshotType", validation.type_name, snapshot.snapshot_type),
        *validation.actor_issues(snapshot.actor),
        *validation.issue("timestamp", validation.moment, snapshot.timestamp),
        *metric_issues,
        *validation.issue("metadata", json_objects.storable, snapshot.metadata),
    ]


def _metric_issues(name: str, metric: object) -> list[str]:
    path = f"metrics.{name[:MAX_METRIC_NAME_SHOWN_CHARACTERS]}"
    if isinstance(metric, str):
        return validation.issue(path, _label, metric)
    if not isinstance(metric, dict):
        if _is_number(metric):
            return []
        return [f"{path}: must be a finite number, a string or an object with a value"]
    issues = []
    if not _is_number(metric.get("value")):
        issues.append(f"{path}.value: must be a finite number")
    if "unit" in metric and metric["unit"] not in limits.METRIC_UNITS:
        issues.append(f"{path}.unit: must be one of {', '.join(limits.METRIC_UNITS)}")
    if "label" in metric:
        label = metric["label"]
        issues += (
            validation.issue(f"{path}.label", _label, label)
            if isinstance(label, str)
            else [f"{path}.label: must be a string"]
        )
    return issues


def _is_number(value: object) -> bool:
    # A bool is an int to Python, not to JSON.
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _label(value: str) -> str:
    return validation.text(value, limits.MAX_LABEL_CHARACTERS, least=0)


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

# The newest timestamp is the card; on a tie the later arrival is, so it replaces an equal one.
_REPLACE_CARDS: Final = Statement(
    "replace_cards",
    "json",
    """
INSERT INTO snapshot_cards AS card (
    organization_id, worker_id, app_id, snapshot_type, snapshot_id, occurred_at)
SELECT organization_id, worker_id, app_id, snapshot_type, id, occurred_at
FROM json_to_recordset($1) AS newest (
    organization_id uuid, app_id uuid, id uuid, worker_id uuid, snapshot_type text,
    occurred_at timestamptz)
ORDER BY 1, 2, 3, 4
ON CONFLICT (organization_id, worker_id, app_id, snapshot_type) DO UPDATE SET
    snapshot_id = excluded.snapshot_id, occurred_at = excluded.occurred_at
WHERE excluded.occurred_at >= card.occurred_at
""",
)


def store(arrived: Sequence[SnapshotRow]) -> list[Call]:
    """Add snapshots, in order of arrival, to the history and make the newest the cards."""
    if not arrived:
        return []
    newest: dict[tuple[UUID, UUID, UUID, str], SnapshotRow] = {}
    for row in arrived:
        current = newest.get(row.card)
        if current is None or row.checked.occurred_us >= current.checked.occurred_us:
            newest[row.card] = row
    return [
        Call(_INSERT_HISTORY, _records(arrived)),
        Call(_REPLACE_CARDS, _records(newest.values())),
    ]


def _records(snapshots: Iterable[SnapshotRow]) -> str:
    # JSON texts are strings in it: they are to stay as they are, to the last digit.
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


# --- for operators ---------------------------------------------------------------------------


class StoredSnapshot(Struct, frozen=True):
    """A snapshot as it was stored. ``metrics`` and ``metadata``: the JSON texts as sent.

    ``is_card``: it is the current card, not one that another replaced.
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
        """When it was received, in microseconds since the epoch, exact to the millisecond."""
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


_HISTORY: Final = """
SELECT snapshot.id, snapshot.snapshot_type, snapshot.occurred_at, metrics::text, metadata::text,
    snapshot.id IS NOT DISTINCT FROM snapshot_id, apps.id, slug, workers.id, display_name
FROM (
    SELECT * FROM snapshot_history
    WHERE organization_id = %(organization)s
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
    db: Connection, organization_id: UUID, worker_id: UUID | None, limit: int
) -> list[StoredSnapshot]:
    """The latest snapshots, those replaced since included, newest received first."""
    values = {"organization": organization_id, "worker": worker_id, "limit": limit}
    return [StoredSnapshot(*row) for row in await (await db.execute(_HISTORY, values)).fetchall()]
