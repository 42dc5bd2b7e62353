"""Organizations: the tenants, each with its plan, its monthly quota and its aggregate rate limit.

An organization lives in one cell, and its name and its cell are in the directory, too: there first
when it is made, there last when it is removed. Running servers hear of every change here from the
home database (core/access/invalidation.py).
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from msgspec import UNSET, Struct, UnsetType, structs
from psycopg.errors import UniqueViolation

from core import ids, limits
from core.admin import checks
from core.admin.cell_sessions import CellSession, CellSessions, name_taken
from core.admin.errors import AlreadyExistsError, InvalidValueError, NotFoundError, not_found
from core.postgres import directory
from core.postgres.directory import CellRecord, OrganizationPlace
from core.postgres.sessions import Connection
from core.timestamps import to_datetime

MAX_MONTHLY_QUOTA: Final = 1_000_000_000_000_000
# Between a change of rights and the last commit of a request that was admitted before it.
QUIET_SECONDS: Final = 2.0
MAX_REMOVED_AT_ONCE: Final = (
    20_000  # rows in a transaction, so that other commits do not wait for long
)


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
    try:
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
        "rate": requests_per_second and checks.requests_per_second(requests_per_second),
    }
    try:
        async with cell.changing(organization_id, name):
            row = await (await cell.db.execute(_UPDATE, values)).fetchone()
            if row is None:
                raise NotFoundError(
                    f"there is no organization {ids.text(ids.ORGANIZATION, organization_id)}"
                )
    except UniqueViolation as error:  # its name is all of it that is unique and can change
        raise name_taken(name or "") from error
    return Organization(*row)


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
    cell = await cells.named(place.cell)
    row = await (await cell.db.execute(_FIND, (place.id,))).fetchone()
    if row is None:
        raise NotFoundError(
            f"the making or the removal of the organization {place.name!r} was interrupted: "
            "`wepeople-ingest org create` with its name finishes it"
        )
    return cell, Organization(*row)


# Events are deleted in blocks, in the order of their key, each from the end of the last one. So one
# partition is read at a time, and the space of deleted rows is never read again.
_BLOCK_ENDS: Final = """
SELECT id FROM events WHERE organization_id = %s AND id > %s
ORDER BY id OFFSET %s LIMIT 1
"""
_REMOVE_BLOCK: Final = """
DELETE FROM events WHERE organization_id = %s AND id > %s AND id <= %s
"""
_FIRST_ID: Final = UUID(int=0)
_LAST_ID: Final = UUID(int=2**128 - 1)

_REMOVE_IDEMPOTENCY_KEYS: Final = """
DELETE FROM idempotency_keys WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM idempotency_keys WHERE organization_id = %s LIMIT %s))
"""

# In the order of the references; concurrent transactions of batches lock quota_usage.
_REMOVE: Final = (
    "DELETE FROM api_keys WHERE organization_id = %s",
    "DELETE FROM quota_usage WHERE organization_id = %s",
    "DELETE FROM refusals WHERE organization_id = %s",
    "DELETE FROM rejections WHERE organization_id = %s",
    "DELETE FROM idempotency_keys WHERE organization_id = %s",
    "DELETE FROM snapshot_cards WHERE organization_id = %s",
    "DELETE FROM snapshot_history WHERE organization_id = %s",
    "DELETE FROM events WHERE organization_id = %s",
    "DELETE FROM producer_counts WHERE organization_id = %s",
    "DELETE FROM producers WHERE organization_id = %s",
    "DELETE FROM worker_links WHERE organization_id = %s",
    "DELETE FROM workers WHERE organization_id = %s",
    "DELETE FROM apps WHERE organization_id = %s",
    "DELETE FROM organizations WHERE id = %s",
)


async def remove(cell: CellSession, organization_id: UUID) -> int:
    """Remove an organization with all of its data; returns the number of its removed events.

    First the organization is shut out: its plan is disabled, and requests that were admitted before
    are waited for. A request that is later still meets a quota of 0, so it charges nothing while
    the rows are removed. Then the rows are removed in bounded transactions, the organization's own
    last, and what the directory has of it. If this is stopped half-way, it can be run again to
    finish.

    NotFoundError if there is no such organization.
    """
    try:
        await update(cell, organization_id, developer_api=False, monthly_quota=0)
    except NotFoundError:
        if await directory.find_organization(cell.home, organization_id, None) is None:
            raise
        await directory.forget_organization(cell.home, organization_id)
        return 0
    await asyncio.sleep(QUIET_SECONDS)
    removed = await _remove_rows(cell.db, organization_id)
    if not cell.is_home:
        await directory.forget_organization(cell.home, organization_id)
    return removed


async def _remove_rows(db: Connection, organization_id: UUID) -> int:
    removed, after, end = 0, _FIRST_ID, _FIRST_ID
    while end != _LAST_ID:
        row = await (
            await db.execute(_BLOCK_ENDS, (organization_id, after, MAX_REMOVED_AT_ONCE - 1))
        ).fetchone()
        end = _LAST_ID if row is None else row[0]
        cursor = await db.execute(_REMOVE_BLOCK, (organization_id, after, end))
        removed += cursor.rowcount
        after = end
    gone = MAX_REMOVED_AT_ONCE
    while gone == MAX_REMOVED_AT_ONCE:
        values = (organization_id, MAX_REMOVED_AT_ONCE)
        gone = (await db.execute(_REMOVE_IDEMPOTENCY_KEYS, values)).rowcount
    async with db.transaction():
        for statement in _REMOVE:
            await db.execute(statement, (organization_id,))
    return removed


def _name(value: str) -> str:
    return checks.name("organization name", value)


def _quota(value: int | None) -> int | None:
    if value is not None and not 0 <= value <= MAX_MONTHLY_QUOTA:
        raise InvalidValueError(
            f"the quota {value} must be 0 to {MAX_MONTHLY_QUOTA} events a month"
        )
    return value
