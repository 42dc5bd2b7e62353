"""Workers of a tenant with events, snapshots and links, written without a service."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from psycopg.types.json import Json

from core import ids
from core.admin import workers
from core.admin.cell_sessions import CellSession
from core.timestamps import to_datetime
from tests.support.tenant import Tenant, now_us

MONTH_US: Final = 31 * 86_400 * 1_000_000


async def add_worker(
    cell: CellSession, tenant: Tenant, name: str, email: str | None, *external_ids: str
) -> UUID:
    """A worker with links of the tenant's app."""
    owner = tenant.organization.id
    worker = await workers.create(cell, owner, name, email, now_us())
    for external_id in external_ids:
        await cell.db.execute(
            "INSERT INTO worker_links (organization_id, app_id, external_id, worker_id)"
            " VALUES (%s, %s, %s, %s)",
            (owner, tenant.app.id, external_id, worker.id),
        )
    return worker.id


async def add_events(cell: CellSession, tenant: Tenant, worker_id: UUID, count: int) -> None:
    """Events with metadata, of this month and the next."""
    for number in range(count):
        event_id = ids.new(now_us() + MONTH_US * (number % 2))
        await cell.db.execute(
            "INSERT INTO events (organization_id, app_id, id, worker_id, event_type, category,"
            " occurred_at, metadata) VALUES (%s, %s, %s, %s, 'deal.won', 'code', now(), %s)",
            (tenant.organization.id, tenant.app.id, event_id, worker_id, Json({"who": "Zoe"})),
        )


async def add_snapshot(
    cell: CellSession,
    tenant: Tenant,
    worker_id: UUID,
    snapshot_type: str,
    at_us: int,
    metrics: str = "{}",
    metadata: Any = None,
) -> UUID:
    """A snapshot that is its card."""
    snapshot_id, owner = ids.new(at_us), tenant.organization.id
    await cell.db.execute(
        "INSERT INTO snapshot_history (organization_id, id, app_id, worker_id, snapshot_type,"
        " occurred_at, metrics, metadata) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
        (
            *(owner, snapshot_id, tenant.app.id, worker_id, snapshot_type, to_datetime(at_us)),
            *(metrics, None if metadata is None else Json(metadata)),
        ),
    )
    await cell.db.execute(
        "INSERT INTO snapshot_cards (organization_id, worker_id, app_id, snapshot_type,"
        " snapshot_id, occurred_at, received_at) VALUES (%s, %s, %s, %s, %s, %s, %s)"
        " ON CONFLICT (organization_id, worker_id, app_id, snapshot_type) DO UPDATE"
        " SET snapshot_id = excluded.snapshot_id, occurred_at = excluded.occurred_at,"
        " received_at = excluded.received_at",
        (
            *(owner, worker_id, tenant.app.id, snapshot_type, snapshot_id),
            *(to_datetime(at_us), to_datetime(at_us)),
        ),
    )
    return snapshot_id
