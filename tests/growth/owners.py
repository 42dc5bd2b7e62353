"""The organizations of a filled database: of different size, with apps, people, cards and usage."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from core import ids
from core.admin import apps, organizations
from core.admin.cell_sessions import CellSession
from core.models import Worker
from core.postgres.sessions import Connection
from core.timestamps import to_datetime

ORGANIZATIONS: Final = 20
APPS: Final = ("crm-hub", "help-desk", "phone")
WORKERS_OF_THE_LARGEST: Final = 2_000
MIN_WORKERS: Final = 10
# Types with their category; of the last there are events in the first months alone.
TYPES: Final = (
    ("ticket.resolved", "project_management"),
    ("ticket.created", "project_management"),
    ("deal.won", "other"),
    ("call.ended", "communication"),
    ("message.sent", "communication"),
    ("task.completed", "project_management"),
    ("survey.closed", "calendar"),
)
CARD_TYPES: Final = ("tickets_open", "deals_open")
REJECTED_CODES: Final = ("validation_error", "event_type_not_allowed", "rate_limited")

_WORKER: Final = """
COPY workers (organization_id, id, display_name, email, email_key, created_at) FROM STDIN
"""
_LINK: Final = "COPY worker_links (organization_id, app_id, external_id, worker_id) FROM STDIN"
_HISTORY: Final = """
COPY snapshot_history (organization_id, id, app_id, worker_id, snapshot_type, occurred_at, metrics)
FROM STDIN
"""
_CARDS: Final = """
INSERT INTO snapshot_cards
    (organization_id, worker_id, app_id, snapshot_type, snapshot_id, occurred_at)
SELECT organization_id, worker_id, app_id, snapshot_type, id, occurred_at FROM snapshot_history
"""
_USAGE: Final = (
    "INSERT INTO quota_usage (organization_id, month, used, granted) VALUES (%s,%s,%s,0)"
)
_REJECTED: Final = "INSERT INTO refusals VALUES (%s, %s, %s, 10, 10)"


@dataclass(frozen=True)
class Owner:
    """An organization. ``share``: of all events. ``leaver``: the worker of the first months."""

    id: UUID
    share: float
    apps: tuple[UUID, ...]
    workers: tuple[Worker, ...]
    leaver: Worker


async def make_owners(cell: CellSession) -> list[Owner]:
    """New organizations, the largest first, whose sizes follow Zipf's law."""
    total = sum(1 / rank for rank in range(1, ORGANIZATIONS + 1))
    return [await _make(cell, rank, 1 / rank / total) for rank in range(1, ORGANIZATIONS + 1)]


async def _make(cell: CellSession, rank: int, share: float) -> Owner:
    now_us = time.time_ns() // 1_000
    organization = await organizations.create(cell, f"Growth {rank}", now_us)
    types = [name for name, _ in TYPES]
    made = [await apps.create(cell, organization, slug, slug, types, now_us) for slug in APPS]
    count = max(WORKERS_OF_THE_LARGEST // rank, MIN_WORKERS)
    workers = tuple(Worker(ids.new(now_us), f"Person {number}") for number in range(count))
    owner = Owner(organization.id, share, tuple(app.id for app in made), workers[:-1], workers[-1])
    await _store_people(cell.db, owner, to_datetime(now_us))
    return owner


async def _store_people(db: Connection, owner: Owner, now: datetime) -> None:
    people = (*owner.workers, owner.leaver)
    async with db.transaction(), db.cursor() as cursor:
        async with cursor.copy(_WORKER) as copy:
            for number, worker in enumerate(people):
                email = f"person{number}@{owner.id}.example"
                await copy.write_row((owner.id, worker.id, worker.display_name, email, email, now))
        async with cursor.copy(_LINK) as copy:
            for number, worker in enumerate(people):
                for app in owner.apps:
                    await copy.write_row((owner.id, app, f"user-{number}", worker.id))
        async with cursor.copy(_HISTORY) as copy:
            for number, worker in enumerate(people):
                for kind in CARD_TYPES:
                    app = owner.apps[number % len(owner.apps)]
                    row = (owner.id, ids.new(time.time_ns() // 1_000), app, worker.id, kind, now)
                    await copy.write_row((*row, '{"open":12}'))
        await cursor.execute(_CARDS + "WHERE organization_id = %s", (owner.id,))
        month = now.date().replace(day=1)
        await cursor.execute(_USAGE, (owner.id, month, len(people)))
        for code in REJECTED_CODES:
            await cursor.execute(_REJECTED, (owner.id, month, code))
