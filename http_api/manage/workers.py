"""``/organizations/…/workers``: the people whom events and snapshots are about."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from msgspec import UNSET
from pydantic import Field

from core import ids
from core.admin import (
    as_json,
    checks,
    erasure,
    worker_activity,
    worker_merge,
    worker_rename,
    workers,
)
from core.admin.errors import InvalidValueError
from core.admin.pages import page_of
from core.admin.workers import WorkerDetails
from http_api.manage import records
from http_api.manage.in_path import OwnerInPath, WorkerInPath, id_in_query
from http_api.manage.pages import Paging, page_json
from http_api.manage.removing import Confirmed
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


class Erasure(Confirmed):
    """The parameters of an erasure."""

    keep_content: bool = Field(
        False, description="Keep metadata, and texts among metrics: only if they tell of nobody."
    )


@router.get(ALL, dependencies=READS)
async def list_workers(
    owner: OwnerInPath, wanted: Annotated[WorkerQuery, Query()]
) -> records.WorkerPage:
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
    return records.WorkerPage.model_validate(page_json(page, as_json.worker))


@router.post(ALL, status_code=HTTPStatus.CREATED, dependencies=WRITES)
async def create_worker(owner: OwnerInPath, desk: Desk, given: records.NewWorker) -> records.Worker:
    """Make a worker ahead of the first event, which would make the person, too."""
    made = await workers.create(
        owner.cell, owner.organization.id, given.display_name, given.email, desk.clock.now_us()
    )
    return _answer(made)


@router.get(ONE, dependencies=READS)
async def get_worker(worker: WorkerInPath) -> records.Worker:
    """Show one worker, with what the organization's apps call the person."""
    return _answer(worker)


@router.patch(ONE, dependencies=WRITES)
async def rename_worker(
    owner: OwnerInPath, worker: WorkerInPath, given: records.WorkerChange
) -> records.Worker:
    """Rename a worker. An e-mail that is replaced leads to nobody any more."""
    email = given.email if "email" in given.model_fields_set else UNSET
    return _answer(
        await worker_rename.rename(
            owner.cell, owner.organization.id, worker.id, given.display_name, email
        )
    )


@router.get(f"{ONE}/activity", dependencies=READS)
async def get_worker_activity(owner: OwnerInPath, worker: WorkerInPath) -> records.Activity:
    """Count a worker's events and snapshots, which can take some seconds."""
    found = await worker_activity.activity(owner.cell.db, owner.organization.id, worker.id)
    return records.Activity.model_validate(as_json.activity(found))


@router.post(f"{ONE}/merge", dependencies=WRITES)
async def merge_worker(
    owner: OwnerInPath,
    worker: WorkerInPath,
    given: records.WorkerMerge,
    wanted: Annotated[Confirmed, Query()],
) -> records.MergedWorker:
    """Merge a worker into another one, the same person, for good.

    Without an answer in time, or with `unavailable`, it is sent again with the same ids.
    """
    wanted.check(worker.display_name)
    into = id_in_query(ids.WORKER, "into", given.into)
    assert into is not None
    moved = await worker_merge.merge(owner.cell, owner.organization.id, worker.id, into)
    return records.MergedWorker.model_validate(as_json.merged(worker.id, into, moved))


@router.post(f"{ONE}/erase", dependencies=WRITES)
async def erase_worker(
    owner: OwnerInPath, worker: WorkerInPath, desk: Desk, wanted: Annotated[Erasure, Query()]
) -> records.ErasedWorker:
    """Erase a person's data, for good, and show a receipt.

    Without an answer in time, or with `unavailable`, it is sent again with the worker's id.
    """
    wanted.check(worker.display_name)
    gone = await erasure.erase(
        owner.cell,
        owner.organization.id,
        worker.id,
        desk.clock.now_us(),
        keep_content=wanted.keep_content,
    )
    return records.ErasedWorker.model_validate(
        as_json.erased(worker.id, gone, content_kept=wanted.keep_content)
    )


def _answer(worker: WorkerDetails) -> records.Worker:
    return records.Worker.model_validate(as_json.worker(worker))
