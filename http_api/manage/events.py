"""``/organizations/…/events``: the monitoring timeline."""

from __future__ import annotations

from datetime import date
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import Field

from core import ids, limits
from core.admin import as_json, checks, timeline
from core.admin.pages import page_of
from core.rules import fields
from http_api.manage import records
from http_api.manage.in_path import OwnerInPath, id_in_query
from http_api.manage.pages import Paging, exact, page_json
from http_api.manage.security import READS

router = APIRouter(tags=["Events"])


class EventQuery(Paging):
    """The parameters of the list."""

    app_id: str | None = Field(None, description="Only those of this app.")
    worker_id: str | None = Field(None, description="Only those about this worker.")
    event_type: str | None = Field(
        None, pattern=limits.TYPE_PATTERN, description="Only those of this type."
    )
    category: str | None = Field(
        None,
        description="Only those of this category.",
        json_schema_extra={"enum": [*limits.CATEGORIES, None]},
    )
    day: date | None = Field(None, description="Only those received on this day, in UTC.")


@router.get(
    "/organizations/{organizationId}/events",
    dependencies=READS,
    response_model=records.EventPage,
)
async def list_events(owner: OwnerInPath, wanted: Annotated[EventQuery, Query()]) -> Response:
    """List an organization's events, the last received first."""
    selection = timeline.Selection(
        owner.organization.id,
        id_in_query(ids.APP, "appId", wanted.app_id),
        id_in_query(ids.WORKER, "workerId", wanted.worker_id),
        wanted.event_type,
        wanted.category and checks.checked("category", fields.category, wanted.category),
        wanted.day,
    )
    found = await timeline.newest(owner.cell.db, selection, wanted.limit + 1, wanted.after(UUID))
    page = page_of(found, wanted.limit, lambda event: event.id)
    return exact(page_json(page, as_json.event))
