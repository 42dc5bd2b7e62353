"""``/organizations/…/rejections``: why requests and events were refused."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import Field

from core import ids
from core.admin import apps, as_json, rejections
from core.admin.pages import page_of
from http_api.manage import records
from http_api.manage.in_path import OwnerInPath, id_in_query
from http_api.manage.pages import Paging, page_json
from http_api.manage.security import READS

router = APIRouter(tags=["Rejections"])


class RejectionQuery(Paging):
    """The parameters of the list."""

    code: str | None = Field(None, description="Only those with this error code.")
    app_id: str | None = Field(None, description="Only those of this app.")
    request_id: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9_]{1,64}$",
        description="Only those of the request with this id, as the client was told it.",
    )


@router.get("/organizations/{organizationId}/rejections", dependencies=READS)
async def list_rejections(
    owner: OwnerInPath, wanted: Annotated[RejectionQuery, Query()]
) -> records.RejectionPage:
    """List why an organization's requests and events were refused, the latest first."""
    app_id = id_in_query(ids.APP, "appId", wanted.app_id)
    slug = None
    if app_id is not None:
        slug = (await apps.get(owner.cell.db, owner.organization.id, app_id)).slug
    selection = rejections.Selection(
        owner.organization.id,
        None if wanted.code is None else rejections.check_code(wanted.code),
        slug,
        wanted.request_id,
    )
    found = await rejections.newest(
        owner.cell.db, selection, wanted.limit + 1, before=wanted.after(UUID)
    )
    page = page_of(found, wanted.limit, lambda one: one.id)
    return records.RejectionPage.model_validate(page_json(page, as_json.rejection))
