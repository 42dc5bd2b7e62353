"""``/organizations/…/workers``: the people whom events and snapshots are about."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import Field

from core.admin import as_json, checks, workers
from core.admin.errors import InvalidValueError
from core.admin.pages import page_of
from core.admin.workers import WorkerDetails
from http_api.manage import models
from http_api.manage.in_path import OwnerInPath, WorkerInPath
from http_api.manage.pages import Paging, page_json
from http_api.manage.security import READS, WRITES, Desk

router = APIRouter(tags=["Workers"])
ALL = "/organizations/{organizationId}/workers"
ONE = f"{ALL}/{{workerId}}"


class WorkerQuery(Paging):
    """The parameters of the list."""

    search: str | None = Field(
        None,
        max_length=320,
        description="Only those whose name or e-mail begins so, in whatever case.",
    )


@router.get(ALL, dependencies=READS)
async def list_workers(
    owner: OwnerInPath, wanted: Annotated[WorkerQuery, Query()]
) -> models.WorkerPage:
    """List the workers of an organization, in the order in which they were made."""
    if wanted.search is not None and checks.storable(wanted.search) is None:
        raise InvalidValueError("search: it has a character that no name has")
    found = await workers.page(
        owner.cell.db,
        owner.organization.id,
        wanted.limit + 1,
        wanted.after(UUID),
        wanted.search,
    )
    page = page_of(found, wanted.limit, lambda worker: worker.id)
    return models.WorkerPage.model_validate(page_json(page, as_json.worker))


@router.post(ALL, status_code=HTTPStatus.CREATED, dependencies=WRITES)
async def create_worker(owner: OwnerInPath, desk: Desk, given: models.NewWorker) -> models.Worker:
    """Make a worker ahead of the first event, which would make the person, too."""
    made = await workers.create(
        owner.cell, owner.organization.id, given.display_name, given.email, desk.clock.now_us()
    )
    return _answer(made)


@router.get(ONE, dependencies=READS)
async def get_worker(worker: WorkerInPath) -> models.Worker:
    """Show one worker, with what the organization's apps call the person."""
    return _answer(worker)


def _answer(worker: WorkerDetails) -> models.Worker:
    return models.Worker.model_validate(as_json.worker(worker))
