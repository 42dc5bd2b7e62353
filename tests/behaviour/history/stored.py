"""The rows that the database holds of an organization in the end."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from tests.behaviour.history.record import OrganizationRecord

Row = dict[str, Any]


@dataclass(frozen=True)
class Stored:
    """The rows of an organization; events and snapshots by marker."""

    rows: dict[str, list[Row]]
    cards: dict[tuple[UUID, UUID, str], str]
    used: int
    workers: set[UUID]
    links: dict[tuple[UUID, str], UUID]
    sequences: dict[tuple[UUID, str], int]

    @property
    def count(self) -> int:
        """How many events and snapshots are stored."""
        return sum(map(len, self.rows.values()))


async def read(organization: OrganizationRecord) -> Stored:
    """Read them as they are now."""
    tenant = organization.tenant
    of_it = tenant.organization.id
    rows: dict[str, list[Row]] = defaultdict(list)
    for row in await tenant.events():
        rows[json.loads(row["metadata"])["marker"]].append(row)
    history = await tenant.rows(
        "SELECT id, app_id, worker_id, snapshot_type, occurred_at, metadata::text AS metadata "
        "FROM snapshot_history WHERE organization_id = %s",
        of_it,
    )
    for row in history:
        rows[json.loads(row["metadata"])["marker"]].append(row)
    links = await tenant.rows("SELECT * FROM worker_links WHERE organization_id = %s", of_it)
    producers = await tenant.rows("SELECT * FROM producers WHERE organization_id = %s", of_it)
    return Stored(
        rows,
        {
            (row["app_id"], row["worker_id"], row["snapshot_type"]): json.loads(row["metadata"])[
                "marker"
            ]
            for row in await tenant.cards()
        },
        await tenant.used(),
        {row["id"] for row in await tenant.workers()},
        {(row["app_id"], row["external_id"]): row["worker_id"] for row in links},
        {(row["app_id"], row["producer_id"]): row["sequence"] for row in producers},
    )
