"""``/organizations/…/usage``: the month in numbers, and the traffic of its apps."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query
from pydantic import Field

from core.admin import as_json, traffic, usage
from http_api.manage import records
from http_api.manage.in_path import OwnerInPath
from http_api.manage.models import Model
from http_api.manage.security import READS, Desk

router = APIRouter(tags=["Usage"])
MAX_MINUTES: Final = 180  # of one answer; the command line shows more


class UsageQuery(Model):
    """The parameters of the usage."""

    minutes: int | None = Field(
        None, ge=1, le=MAX_MINUTES, description="Also the traffic of each app in so many minutes."
    )


@router.get(
    "/organizations/{organizationId}/usage",
    dependencies=READS,
    response_model_exclude_unset=True,
)
async def get_usage(
    owner: OwnerInPath, desk: Desk, wanted: Annotated[UsageQuery, Query()]
) -> records.Usage:
    """Show this month's quota, what is used and left of it, and what was rejected and why."""
    now_us = desk.clock.now_us()
    month = await usage.read(owner.cell.db, owner.organization.id, now_us)
    shown = as_json.usage(owner.organization.name, month)
    if wanted.minutes is not None:
        recent = await traffic.recent(owner.cell.db, owner.organization.id, wanted.minutes, now_us)
        shown["minutes"] = list(map(as_json.app_minute, recent))
    return records.Usage.model_validate(shown)
