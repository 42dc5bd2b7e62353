"""``/organizations/…/snapshots`` and ``…/cards``: the history of metric cards, and the current."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import Field

from core import ids
from core.admin import as_json, snapshots
from core.admin.pages import page_of
from core.admin.snapshots import CardKey
from http_api.manage import records
from http_api.manage.in_path import OwnerInPath, id_in_query
from http_api.manage.pages import Paging, exact, page_json
from http_api.manage.security import READS

router = APIRouter(tags=["Snapshots"])


class SnapshotQuery(Paging):
    """The parameters of the lists."""

    worker_id: str | None = Field(None, description="Only those about this worker.")


@router.get(
    "/organizations/{organizationId}/snapshots",
    dependencies=READS,
    response_model=records.SnapshotPage,
)
async def list_snapshots(owner: OwnerInPath, wanted: Annotated[SnapshotQuery, Query()]) -> Response:
    """List an organization's snapshots, those replaced since too, the last received first."""
    found = await snapshots.history(
        owner.cell.db,
        owner.organization.id,
        id_in_query(ids.WORKER, "workerId", wanted.worker_id),
        wanted.limit + 1,
        wanted.after(UUID),
    )
    page = page_of(found, wanted.limit, lambda snapshot: snapshot.id)
    return exact(page_json(page, as_json.snapshot))


@router.get(
    "/organizations/{organizationId}/cards",
    dependencies=READS,
    response_model=records.SnapshotPage,
)
async def list_cards(owner: OwnerInPath, wanted: Annotated[SnapshotQuery, Query()]) -> Response:
    """List an organization's current snapshots, which no later one has replaced."""
    found = await snapshots.cards_page(
        owner.cell.db,
        owner.organization.id,
        id_in_query(ids.WORKER, "workerId", wanted.worker_id),
        wanted.limit + 1,
        wanted.after(CardKey),
    )
    page = page_of(found, wanted.limit, CardKey.of)
    return exact(page_json(page, as_json.snapshot))
