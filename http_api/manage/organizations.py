"""``/organizations``."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Response
from msgspec import UNSET

from core.admin import as_json, organizations, removal
from core.admin.cell_sessions import CellSessions
from core.admin.errors import InvalidValueError
from core.admin.organizations import Organization
from core.postgres.directory import CellRecord, list_cells
from http_api.manage import rights
from http_api.manage.in_path import OwnerInPath
from http_api.manage.pages import Paging, page_json
from http_api.manage.removing import REMOVAL_SECONDS, Removing
from http_api.manage.security import READS, WRITES, Cells, Desk

router = APIRouter(tags=["Organizations"])
ONE = "/organizations/{organizationId}"


@router.get("/organizations", dependencies=READS, response_model_exclude_unset=True)
async def list_organizations(
    cells: Cells, wanted: Annotated[Paging, Query()]
) -> rights.OrganizationPage:
    """List the organizations of all cells, by name."""
    page = await organizations.page(cells, wanted.limit, wanted.after(str))
    several = len(await list_cells(cells.home)) > 1

    def to_json(placed: tuple[CellRecord, Organization]) -> as_json.Json:
        cell, organization = placed
        return as_json.organization(organization, cell.name if several else None)

    left_out = {"leftOut": sorted(cells.left_out)}
    return rights.OrganizationPage.model_validate(page_json(page, to_json, left_out))


@router.post(
    "/organizations",
    status_code=HTTPStatus.CREATED,
    dependencies=WRITES,
    response_model_exclude_unset=True,
)
async def create_organization(
    cells: Cells, desk: Desk, given: rights.NewOrganization
) -> rights.Organization:
    """Make an organization."""
    cell, made = await organizations.create_anywhere(
        cells,
        given.name,
        desk.clock.now_us(),
        given.cell,
        monthly_quota=given.monthly_quota,
        developer_api=given.developer_api,
        requests_per_second=given.requests_per_second,
    )
    return await _answer(cells, cell.record, made)


@router.get(ONE, dependencies=READS, response_model_exclude_unset=True)
async def get_organization(cells: Cells, owner: OwnerInPath) -> rights.Organization:
    """Show one organization."""
    return await _answer(cells, owner.cell.record, owner.organization)


@router.patch(ONE, dependencies=WRITES, response_model_exclude_unset=True)
async def update_organization(
    cells: Cells, owner: OwnerInPath, change: rights.OrganizationChange
) -> rights.Organization:
    """Change an organization. It is in force on every server within a second."""
    if not change.model_fields_set:
        raise InvalidValueError("body: there is nothing to change in it")
    changed = await organizations.update(
        owner.cell,
        owner.organization.id,
        name=change.name,
        developer_api=change.developer_api,
        monthly_quota=change.monthly_quota if "monthly_quota" in change.model_fields_set else UNSET,
        requests_per_second=change.requests_per_second,
    )
    return await _answer(cells, owner.cell.record, changed)


@router.delete(
    ONE,
    dependencies=WRITES,
    responses={HTTPStatus.ACCEPTED: {"model": rights.OrganizationRemoval}},
)
async def remove_organization(
    owner: OwnerInPath, desk: Desk, response: Response, wanted: Annotated[Removing, Query()]
) -> rights.OrganizationRemoval:
    """Remove an organization with all it has, for good.

    A large one is removed by several requests: 202 says that it is shut out, and that some of it is
    left; send the request again until the answer is 200.
    """
    name, organization_id = owner.organization.name, owner.organization.id
    if not wanted.dry_run:
        wanted.check(name)
    extent = await removal.extent(owner.cell.db, organization_id, desk.clock.now_us())
    is_done = False
    if not wanted.dry_run:
        left = await removal.remove_organization(owner.cell, organization_id, REMOVAL_SECONDS)
        is_done = left.is_finished
        response.status_code = HTTPStatus.OK if is_done else HTTPStatus.ACCEPTED
    return rights.OrganizationRemoval.model_validate(
        {"organization": name, "removed": is_done, **as_json.extent(extent)}
    )


async def _answer(
    cells: CellSessions, cell: CellRecord, organization: Organization
) -> rights.Organization:
    shown = await cells.shown_name(cell)
    return rights.Organization.model_validate(as_json.organization(organization, shown))
