"""The removal of an organization: in bounded transactions, after it was shut out."""

from __future__ import annotations

import asyncio
from typing import Final
from uuid import UUID

from core import ids
from core.admin import organizations
from core.admin.cell_sessions import CellSession
from core.admin.errors import NotFoundError
from core.postgres import directory
from core.postgres.audit import Change
from core.postgres.sessions import Connection

# Between a change of rights and the last commit of a request that was admitted before it.
QUIET_SECONDS: Final = 2.0
MAX_REMOVED_AT_ONCE: Final = (
    20_000  # rows in a transaction, so that other commits do not wait for long
)

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


async def remove_organization(cell: CellSession, organization_id: UUID) -> int:
    """Remove an organization with all of its data; returns the number of its removed events.

    First the organization is shut out: its plan is disabled, and requests that were admitted before
    are waited for. A request that is later still meets a quota of 0, so it charges nothing while
    the rows are removed. Then the rows are removed in bounded transactions, the organization's own
    last, and what the directory has of it. If this is stopped half-way, it can be run again to
    finish.

    NotFoundError if there is no such organization.
    """
    change = Change("org.remove", organization_id, ids.text(ids.ORGANIZATION, organization_id))
    async with cell.recording_steps(change):
        try:
            shut_out = await organizations.update(
                cell, organization_id, developer_api=False, monthly_quota=0
            )
        except NotFoundError:
            if await directory.find_organization(cell.home, organization_id, None) is None:
                raise
            await directory.forget_organization(cell.home, organization_id)
            return 0
        await asyncio.sleep(QUIET_SECONDS)
        removed = await _remove_rows(cell.db, organization_id)
        if not cell.is_home:
            await directory.forget_organization(cell.home, organization_id)
        change.before = {"name": shut_out.name, "events": removed}
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
