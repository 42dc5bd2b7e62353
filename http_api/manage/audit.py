"""``/audit``: who changed what, and when."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from core import ids
from core.admin import as_json, audit
from core.admin.pages import page_of
from http_api.manage import records
from http_api.manage.in_path import id_in_query
from http_api.manage.pages import Paging, page_json
from http_api.manage.security import READS, Desk

router = APIRouter(tags=["Audit"])


class AuditQuery(Paging):
    """The parameters of the list."""

    organization_id: str | None = Field(
        None, description="Only the changes of this organization, which may be gone."
    )


@router.get("/audit", dependencies=READS)
async def list_audit(desk: Desk, wanted: Annotated[AuditQuery, Query()]) -> records.AuditPage:
    """List the changes that operators have made, the latest first."""
    organization_id = id_in_query(ids.ORGANIZATION, "organizationId", wanted.organization_id)
    async with desk.home() as home:
        found = await audit.newest(
            home,
            audit.Selection(organization_id),
            wanted.limit + 1,
            before=wanted.after(int),
        )
    page = page_of(found, wanted.limit, lambda entry: entry.number)
    return records.AuditPage.model_validate(page_json(page, as_json.audit_entry))
