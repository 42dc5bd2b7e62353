"""Organizations: the tenants, each with its plan, its monthly quota and its aggregate rate limit.

An organization lives in one cell, and its name and its cell are in the directory, too: there first
when it is made, there last when it is removed. Running servers hear of every change here from the
home database (core/access/invalidation.py).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from msgspec import UNSET, Struct, UnsetType, structs
from psycopg.errors import UniqueViolation

from core import ids, limits
from core.admin import checks
from core.admin.cell_sessions import CellSession, CellSessions, name_taken
from core.admin.errors import AlreadyExistsError, InvalidValueError, NotFoundError, not_found
from core.admin.pages import Page, page_of
from core.postgres import directory
from core.postgres.audit import Change
from core.postgres.directory import CellRecord, OrganizationPlace
from core.postgres.sessions import Connection
from core.timestamps import to_datetime

MAX_MONTHLY_QUOTA: Final = 1_000_000_000_000_000


class Organization(Struct, frozen=True):
    """A tenant. ``monthly_quota``: events; None for no quota."""

    id: UUID
    name: str
    developer_api: bool
    monthly_quota: int | None
    requests_per_second: int
    created_at: datetime


_INSERT: Final = """
INSERT INTO organizations (
    id, name, developer_api, monthly_quota, requests_per_second, created_at)
VALUES (%s, %s, %s, %s, %s, %s)
"""


async def create(
    cell: CellSession,
    name: str,
    now_us: int,
    *,
    monthly_quota: int | None = None,
    developer_api: bool = True,
    requests_per_second: int = limits.DEFAULT_ORGANIZATION_REQUESTS_PER_SECOND,
) -> Organization:
    """Create an organization in a cell; AlreadyExistsError if the name is taken.

    One whose making was interrupted is finished by making it again in the same cell.
    """
    organization = Organization(
        ids.new(now_us),
        _name(name),
        developer_api,
        _quota(monthly_quota),
        checks.requests_per_second(requests_per_second),
        to_datetime(now_us),
    )
    if not cell.is_home:
        organization = structs.replace(organization, id=await _reserve(cell, organization))
    change = Change("org.create", organization.id, ids.text(ids.ORGANIZATION, organization.id))
    change.after = _audited(organization)
    try:
        async with cell.recording(change):
            await cell.db.execute(_INSERT, structs.astuple(organization))
    except UniqueViolation as error:  # the cell has the organization, or home its name
        raise name_taken(name) from error
    return organization


async def _reserve(cell: CellSession, organization: Organization) -> UUID:
    """Enter the name in the directory; the id under which it is there, perhaps from before."""
    place = OrganizationPlace(organization.id, organization.name, cell.record.name)
    entered = await directory.reserve(cell.home, place)
    if entered.cell != place.cell:
        raise AlreadyExistsError(
            f"an organization named {place.name!r} exists already in the cell {entered.cell}; "
            "if its making was interrupted, leave the cell out to finish it"
        )
    return entered.id


async def create_anywhere(
    cells: CellSessions, name: str, now_us: int, cell_name: str | None = None, **settings: Any
) -> tuple[CellSession, Organization]:
    """Create an organization as :func:`create` does, in the cell of that name if one is given.

    Otherwise it is the open cell with the fewest, or the one in which its making was interrupted.
    """
    _name(name)
    begun = None if cell_name else await directory.find_organization(cells.home, None, name)
    if begun is not None:
        cell = await cells.named(begun.cell)
    else:
        cell = await cells.for_new(cell_name)
    return cell, await create(cell, name, now_us, **settings)


_LOCKED: Final = """
SELECT id, name, developer_api, monthly_quota, requests_per_second, created_at
FROM organizations WHERE id = %s FOR UPDATE
"""
_UPDATE: Final = """
UPDATE organizations SET
    name = COALESCE(%(name)s, name),
    developer_api = COALESCE(%(developer_api)s, developer_api),
    monthly_quota = CASE WHEN %(set_quota)s THEN %(quota)s ELSE monthly_quota END,
    requests_per_second = COALESCE(%(rate)s, requests_per_second)
WHERE id = %(id)s
RETURNING id, name, developer_api, monthly_quota, requests_per_second, created_at
"""


async def update(
    cell: CellSession,
    organization_id: UUID,
    *,
    name: str | None = None,
    developer_api: bool | None = None,
    monthly_quota: int | UnsetType | None = UNSET,
    requests_per_second: int | None = None,
) -> Organization:
    """Change the given settings; a quota of None removes the quota.

    The change is in force on every server within a second. AlreadyExistsError if the name is taken,
    NotFoundError if there is no such organization.
    """
    values = {
        "id": organization_id,
        "name": None if name is None else _name(name),
        "developer_api": developer_api,
        "set_quota": monthly_quota is not UNSET,
        "quota": None if monthly_quota is UNSET else _quota(monthly_quota),
        "rate": None
        if requests_per_second is None
        else checks.requests_per_second(requests_per_second),
    }
    subject = ids.text(ids.ORGANIZATION, organization_id)
    change = Change("org.update", organization_id, subject)
    try:
        async with cell.changing(change, name):
            before = await (await cell.db.execute(_LOCKED, (organization_id,))).fetchone()
            after = await (await cell.db.execute(_UPDATE, values)).fetchone()
            if before is None or after is None:
                raise NotFoundError(f"there is no organization {subject}")
            updated = Organization(*after)
            change.before, change.after = _audited(Organization(*before)), _audited(updated)
    except UniqueViolation as error:  # its name is all of it that is unique and can change
        raise name_taken(name or "") from error
    return updated


def _audited(organization: Organization) -> dict[str, object]:
    """An organization as the audit log has it."""
    return {
        "name": organization.name,
        "developerApi": organization.developer_api,
        "monthlyQuota": organization.monthly_quota,
        "requestsPerSecond": organization.requests_per_second,
    }


_ALL: Final = """
SELECT id, name, developer_api, monthly_quota, requests_per_second, created_at
FROM organizations ORDER BY name
"""


async def list_all(db: Connection) -> list[Organization]:
    """Every organization, by name."""
    return [Organization(*row) for row in await (await db.execute(_ALL)).fetchall()]


_FIND: Final = """
SELECT id, name, developer_api, monthly_quota, requests_per_second, created_at
FROM organizations WHERE id = %s
"""


async def list_everywhere(cells: CellSessions) -> list[tuple[CellRecord, Organization]]:
    """Every organization of every cell, by name, with its cell."""
    found = await cells.everywhere(list_all)
    # One cell's are in the database's order, which may know more of a language than Python.
    several = len({cell for cell, _ in found}) > 1
    return sorted(found, key=lambda one: one[1].name) if several else found


_OF_PAGE: Final = """
SELECT id, name, developer_api, monthly_quota, requests_per_second, created_at
FROM organizations WHERE id = ANY (%s)
"""


async def page(
    cells: CellSessions, limit: int, after: str | None = None
) -> Page[tuple[CellRecord, Organization], str]:
    """The organizations after that name, by name, each with its cell.

    Those in a cell that does not answer are left out (``cells.left_out``), and so are those whose
    making was interrupted.
    """
    places = page_of(
        await directory.organizations_after(cells.home, after or "", limit + 1),
        limit,
        lambda place: place.name,
    )
    wanted = [place.id for place in places.items]

    async def read(db: Connection) -> list[Organization]:
        return [
            Organization(*row) for row in await (await db.execute(_OF_PAGE, (wanted,))).fetchall()
        ]

    found = await cells.everywhere(read, {place.cell for place in places.items})
    by_id = {organization.id: (cell, organization) for cell, organization in found}
    return Page([by_id[one] for one in wanted if one in by_id], places.after)


async def find(cells: CellSessions, given: str) -> tuple[CellSession, Organization]:
    """The organization with that id, else with that exact name, and its cell.

    NotFoundError if there is none.
    """
    given_id = ids.parse(ids.ORGANIZATION, given)
    place = await directory.find_organization(cells.home, given_id, checks.storable(given))
    if place is None:
        names = [place.name for place in await directory.list_organizations(cells.home)]
        raise not_found(
            "organization", given, names, "`wepeople-ingest org list` shows those there are"
        )
    return await _at(cells, place)


async def get(cells: CellSessions, organization_id: UUID) -> tuple[CellSession, Organization]:
    """The organization with that id, and its cell; NotFoundError if there is none."""
    place = await directory.find_organization(cells.home, organization_id, None)
    if place is None:
        raise NotFoundError(
            f"there is no organization {ids.text(ids.ORGANIZATION, organization_id)}"
        )
    return await _at(cells, place)


async def _at(cells: CellSessions, place: OrganizationPlace) -> tuple[CellSession, Organization]:
    cell = await cells.named(place.cell)
    row = await (await cell.db.execute(_FIND, (place.id,))).fetchone()
    if row is None:
        raise NotFoundError(
            f"the making or the removal of the organization {place.name!r} was interrupted: "
            "`wepeople-ingest org create` with its name finishes it"
        )
    return cell, Organization(*row)


def _name(value: str) -> str:
    return checks.name("organization name", value)


def _quota(value: int | None) -> int | None:
    if value is not None and not 0 <= value <= MAX_MONTHLY_QUOTA:
        raise InvalidValueError(
            f"the quota {value} must be 0 to {MAX_MONTHLY_QUOTA} events a month"
        )
    return value
