"""The removal of an organization or an app: in bounded transactions, after it was shut out."""

from __future__ import annotations

import asyncio
import math
from typing import Final
from uuid import UUID

from msgspec import Struct

from core import ids
from core.admin.apps import App
from core.admin.cell_sessions import CellSession
from core.admin.errors import NotFoundError
from core.admin.event_blocks import event_blocks
from core.postgres import directory
from core.postgres.audit import Change
from core.postgres.sessions import Connection
from core.timestamps import to_datetime

# Between a change of rights and the last commit of a request that was admitted before it.
QUIET_SECONDS: Final = 2.0
MAX_REMOVED_AT_ONCE: Final = (
    20_000  # rows in a transaction, so that other commits do not wait for long
)

MAX_COUNTED: Final = 1_000_000  # events, and snapshots: beyond it nobody wants to wait for more


class Removal(Struct, frozen=True):
    """A removal, or as much of it as its time allowed. ``events``: those that were removed."""

    events: int
    is_finished: bool


class Extent(Struct, frozen=True):
    """The rows that a removal takes with it. ``working_keys``: those of the keys that still work.

    Snapshots and events are counted up to MAX_COUNTED.
    """

    apps: int
    keys: int
    working_keys: int
    workers: int
    producers: int
    snapshots: int
    events: int


_COUNT: Final = """
SELECT
    (SELECT count(*) FROM apps WHERE organization_id = %(organization)s
        AND (%(app)s::uuid IS NULL OR id = %(app)s)),
    (SELECT count(*) FROM api_keys WHERE organization_id = %(organization)s
        AND (%(app)s::uuid IS NULL OR app_id = %(app)s)),
    (SELECT count(*) FROM api_keys WHERE organization_id = %(organization)s
        AND (%(app)s::uuid IS NULL OR app_id = %(app)s)
        AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > %(now)s)),
    (SELECT count(*) FROM workers WHERE organization_id = %(organization)s
        AND %(app)s::uuid IS NULL),
    (SELECT count(*) FROM producers WHERE organization_id = %(organization)s
        AND (%(app)s::uuid IS NULL OR app_id = %(app)s)),
    (SELECT count(*) FROM (SELECT FROM snapshot_history WHERE organization_id = %(organization)s
        AND (%(app)s::uuid IS NULL OR app_id = %(app)s) LIMIT %(most)s) AS counted),
    (SELECT count(*) FROM (SELECT FROM events WHERE organization_id = %(organization)s
        AND (%(app)s::uuid IS NULL OR app_id = %(app)s) LIMIT %(most)s) AS counted)
"""


async def extent(
    db: Connection, organization_id: UUID, now_us: int, app_id: UUID | None = None
) -> Extent:
    """The rows that go with an organization, or with one app of it."""
    values = {
        "organization": organization_id,
        "app": app_id,
        "now": to_datetime(now_us),
        "most": MAX_COUNTED,
    }
    row = await (await db.execute(_COUNT, values)).fetchone()
    assert row is not None
    return Extent(*row)


_REMOVE_BLOCK: Final = """
DELETE FROM events WHERE organization_id = %s AND id > %s AND id <= %s
    AND (%s::uuid IS NULL OR app_id = %s)
"""

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
    "DELETE FROM traffic WHERE organization_id = %s",
    "DELETE FROM key_uses WHERE organization_id = %s",
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


_SHUT_OUT: Final = """
UPDATE organizations SET developer_api = false, monthly_quota = 0 WHERE id = %s RETURNING name
"""


async def remove_organization(
    cell: CellSession, organization_id: UUID, seconds: float | None = None
) -> Removal:
    """Remove an organization with all of its data.

    First the organization is shut out: its plan is disabled, and requests that were admitted before
    are waited for. A request that is later still meets a quota of 0, so it charges nothing while
    the rows are removed. Then the rows are removed in bounded transactions, the organization's own
    last, and what the directory has of it. If this is stopped half-way, it can be run again to
    finish; so it can after ``seconds``, when no more events are begun to be removed.

    NotFoundError if there is no such organization.
    """
    deadline = _deadline(seconds)
    change = Change("org.remove", organization_id, ids.text(ids.ORGANIZATION, organization_id))
    async with cell.recording_steps(change):
        async with cell.shutting_out(organization_id):
            shut_out = await (await cell.db.execute(_SHUT_OUT, (organization_id,))).fetchone()
        if shut_out is None:
            if await directory.find_organization(cell.home, organization_id, None) is None:
                raise NotFoundError(f"there is no organization {change.subject}")
            await directory.forget_organization(cell.home, organization_id)
            return Removal(0, is_finished=True)
        await asyncio.sleep(QUIET_SECONDS)
        done = await _remove_events(cell.db, organization_id, deadline)
        change.before = {"name": shut_out[0], "events": done.events}
        if not done.is_finished:
            change.after = {"name": shut_out[0]}
            return done
        await _remove_rows(cell.db, organization_id)
        if not cell.is_home:
            await directory.forget_organization(cell.home, organization_id)
    return done


def _deadline(seconds: float | None) -> float:
    return math.inf if seconds is None else asyncio.get_running_loop().time() + seconds


async def _remove_rows(db: Connection, organization_id: UUID) -> None:
    gone = MAX_REMOVED_AT_ONCE
    while gone == MAX_REMOVED_AT_ONCE:
        values = (organization_id, MAX_REMOVED_AT_ONCE)
        gone = (await db.execute(_REMOVE_IDEMPOTENCY_KEYS, values)).rowcount
    async with db.transaction():
        for statement in _REMOVE:
            await db.execute(statement, (organization_id,))


async def _remove_events(
    db: Connection, organization_id: UUID, deadline: float, app_id: UUID | None = None
) -> Removal:
    removed = 0
    async for block in event_blocks(db, organization_id, MAX_REMOVED_AT_ONCE):
        if asyncio.get_running_loop().time() > deadline:
            return Removal(removed, is_finished=False)
        values = (organization_id, *block, app_id, app_id)
        removed += (await db.execute(_REMOVE_BLOCK, values)).rowcount
    return Removal(removed, is_finished=True)


_REVOKE_KEYS: Final = """
UPDATE api_keys SET revoked_at = %s
WHERE organization_id = %s AND app_id = %s AND revoked_at IS NULL
"""
_DIGESTS: Final = "SELECT digest FROM api_keys WHERE organization_id = %s AND app_id = %s"
# In the order of the references, as of an organization. Its workers stay: others know them, too.
_REMOVE_OF_APP: Final = (
    """
    DELETE FROM idempotency_keys WHERE organization_id = %(organization)s AND key_id IN (
        SELECT id FROM api_keys WHERE organization_id = %(organization)s AND app_id = %(app)s)
    """,
    """
    DELETE FROM key_uses WHERE organization_id = %(organization)s AND key_id IN (
        SELECT id FROM api_keys WHERE organization_id = %(organization)s AND app_id = %(app)s)
    """,
    "DELETE FROM api_keys WHERE organization_id = %(organization)s AND app_id = %(app)s",
    "DELETE FROM traffic WHERE organization_id = %(organization)s AND app_id = %(app)s",
    "DELETE FROM rejections WHERE organization_id = %(organization)s AND app_slug = %(slug)s",
    "DELETE FROM snapshot_cards WHERE organization_id = %(organization)s AND app_id = %(app)s",
    "DELETE FROM snapshot_history WHERE organization_id = %(organization)s AND app_id = %(app)s",
    "DELETE FROM events WHERE organization_id = %(organization)s AND app_id = %(app)s",
    "DELETE FROM producer_counts WHERE organization_id = %(organization)s AND app_id = %(app)s",
    "DELETE FROM producers WHERE organization_id = %(organization)s AND app_id = %(app)s",
    "DELETE FROM worker_links WHERE organization_id = %(organization)s AND app_id = %(app)s",
    "DELETE FROM apps WHERE organization_id = %(organization)s AND id = %(app)s",
)


async def remove_app(
    cell: CellSession, app: App, now_us: int, seconds: float | None = None
) -> Removal:
    """Remove an app with its keys, events and snapshots.

    First its keys are revoked, and requests that were admitted before are waited for. If this is
    stopped half-way, it can be run again to finish; ``seconds``: as of an organization. The quota
    that its events have used stays used.
    """
    deadline = _deadline(seconds)
    owner = app.organization_id
    change = Change("app.remove", owner, ids.text(ids.APP, app.id))
    async with cell.recording_steps(change):
        async with cell.shutting_out(owner):
            await cell.db.execute(_REVOKE_KEYS, (to_datetime(now_us), owner, app.id))
        await asyncio.sleep(QUIET_SECONDS)
        done = await _remove_events(cell.db, owner, deadline, app.id)
        change.before = {"slug": app.slug, "name": app.name, "events": done.events}
        if not done.is_finished:
            change.after = {"slug": app.slug, "name": app.name}
            return done
        rows = await (await cell.db.execute(_DIGESTS, (owner, app.id))).fetchall()
        async with cell.db.transaction():
            for statement in _REMOVE_OF_APP:
                of_app = {"organization": owner, "app": app.id, "slug": app.slug}
                await cell.db.execute(statement, of_app)
        if not cell.is_home:
            for (key_digest,) in rows:
                await directory.forget_key(cell.home, key_digest)
    return done
