"""Organizations: the tenants, each with its plan, its monthly quota and its aggregate rate limit.

Running servers hear of every change here from the database (core/access/invalidation.py).
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Final
from uuid import UUID

from msgspec import UNSET, Struct, UnsetType
from psycopg.errors import UniqueViolation

from core import ids, limits
from core.admin import checks
from core.admin.errors import AlreadyExistsError, InvalidValueError, NotFoundError, not_found
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
    db: Connection,
    name: str,
    now_us: int,
    *,
    monthly_quota: int | None = None,
    developer_api: bool = True,
    requests_per_second: int = limits.DEFAULT_ORGANIZATION_REQUESTS_PER_SECOND,
) -> Organization:
    """Create an organization; AlreadyExistsError if the name is taken."""
    organization = Organization(
        ids.new(now_us),
        _name(name),
        developer_api,
        _quota(monthly_quota),
        checks.requests_per_second(requests_per_second),
        to_datetime(now_us),
    )
    try:
        await db.execute(
            _INSERT,
            (
                organization.id,
                organization.name,
                organization.developer_api,
                organization.monthly_quota,
                organization.requests_per_second,
                organization.created_at,
            ),
        )
    except UniqueViolation as error:  # the id is new, so it is the name
        raise _name_is_taken(name) from error
    return organization


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
    db: Connection,
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
        row = await (await db.execute(_UPDATE, values)).fetchone()
    except UniqueViolation as error:
        raise _name_is_taken(name or "") from error
    if row is None:
        raise NotFoundError(
            f"there is no organization {ids.text(ids.ORGANIZATION, organization_id)}"
        )
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
FROM organizations WHERE id = %s OR name = %s
ORDER BY id <> %s
"""


async def find(db: Connection, given: str) -> Organization:
    """The organization with that id, else with that exact name; NotFoundError if there is none."""
    given_id = ids.parse(ids.ORGANIZATION, given)
    values = (given_id, checks.storable(given), given_id)
    row = await (await db.execute(_FIND, values)).fetchone()
    if row is None:
        names = [organization.name for organization in await list_all(db)]
        raise not_found(
            "organization", given, names, "`wepeople-ingest org list` shows those there are"
        )
    return Organization(*row)


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


async def remove(db: Connection, organization_id: UUID) -> int:
    """Remove an organization with all of its data; returns the number of its removed events.

    First the organization is shut out: its plan is disabled, and requests that were admitted before
    are waited for. A request that is later still meets a quota of 0, so it charges nothing while
    the rows are removed. Then the rows are removed in bounded transactions, the organization's own
    last. If this is stopped half-way, it can be run again to finish.

    ``db`` is in autocommit mode. NotFoundError if there is no such organization.
    """
    await update(db, organization_id, developer_api=False, monthly_quota=0)
    await asyncio.sleep(QUIET_SECONDS)
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


def _name_is_taken(name: str) -> AlreadyExistsError:
    return AlreadyExistsError(f"an organization named {name!r} exists already")
