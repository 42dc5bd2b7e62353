"""``/console/organizations``: those there are, and new ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from core import ids, limits
from core.admin import organizations
from core.admin.cell_sessions import CellSession, CellSessions
from core.admin.errors import AdministrationError, NotFoundError
from core.admin.organizations import Organization
from http_api.console.query import given
from http_api.console.rendering import address, page
from http_api.console.security import ChangingForm, Form, Reader, Visit
from http_api.paths import READING, organization_path

PATH: Final = "/organizations"
PAGE_ORGANIZATIONS: Final = 50

router = APIRouter()


@router.api_route(PATH, methods=READING)
async def list_organizations(request: Request, visit: Reader) -> Response:
    """List the organizations of all cells that answer."""
    return await _page(request, visit, {})


@router.post(PATH)
async def create_organization(request: Request, form: ChangingForm) -> Response:
    """Make an organization, and go on to its developer tab."""
    try:
        async with form.visit.cells() as cells:
            made = await _create(cells, form)
    except AdministrationError as error:
        return await _page(request, form.visit, form.fields, error)
    return RedirectResponse(f"{path_of(made)}/developer", 303)


async def _create(cells: CellSessions, form: Form) -> Organization:
    quota = form.integer("monthly_quota") if form.text("monthly_quota") else None
    _, made = await organizations.create_anywhere(
        cells,
        form.text("name"),
        form.visit.desk.clock.now_us(),
        monthly_quota=quota,
        requests_per_second=form.integer(
            "requests_per_second", limits.DEFAULT_ORGANIZATION_REQUESTS_PER_SECOND
        ),
    )
    return made


async def _page(
    request: Request,
    visit: Visit,
    fields: Mapping[str, str],
    problem: AdministrationError | None = None,
) -> Response:
    after = given(request, "after") or None
    async with visit.cells() as cells:
        found = await organizations.page(cells, PAGE_ORGANIZATIONS, after)
        left_out = list(cells.left_out.values())
    return page(
        request,
        "organizations.html.jinja",
        problem=problem,
        organizations=[one for _, one in found.items],
        path_of=path_of,
        next_page=found.after and address(request, after=found.after),
        first_page=after and address(request, after=None),
        left_out=left_out,
        fields=fields,
        default_rate=limits.DEFAULT_ORGANIZATION_REQUESTS_PER_SECOND,
    )


async def find(cells: CellSessions, organization_id: str) -> tuple[CellSession, Organization]:
    """Return the organization with the id that is in a path, and its cell."""
    known_id = ids.parse(ids.ORGANIZATION, organization_id)
    if known_id is None:
        raise NotFoundError(f"there is no organization {organization_id!r}")
    return await organizations.get(cells, known_id)


def path_of(organization: Organization) -> str:
    """Return the path of an organization's first page."""
    return organization_path(ids.text(ids.ORGANIZATION, organization.id))
