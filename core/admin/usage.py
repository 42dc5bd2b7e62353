"""Usage: an organization's month in numbers, with its quota and its rejections by code."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Final
from uuid import UUID

from msgspec import Struct

from core.admin.errors import NotFoundError
from core.postgres.sessions import Connection
from core.timestamps import month_start


class RejectionCounts(Struct, frozen=True):
    """The numbers of events rejected one by one, and of requests refused as a whole."""

    events: int
    requests: int


class Usage(Struct, frozen=True):
    """A calendar month (UTC). ``quota``: None for no quota.

    ``used``: accepted events and snapshots, up to date with every commit. ``rejected``: by error
    code; servers add to it every second.
    """

    month: date
    quota: int | None
    used: int
    rejected: Mapping[str, RejectionCounts]

    @property
    def left(self) -> int | None:
        """The number of events that still fit; a quota lowered below its use leaves none."""
        return None if self.quota is None else max(self.quota - self.used, 0)


_QUOTA: Final = """
SELECT monthly_quota, COALESCE(used, 0)
FROM organizations LEFT JOIN quota_usage ON organization_id = id AND month = %s
WHERE id = %s
"""
_REJECTIONS: Final = """
SELECT code, events, requests FROM refusals
WHERE organization_id = %s AND month = %s
ORDER BY events DESC, requests DESC, code
"""


async def read(db: Connection, organization_id: UUID, now_us: int) -> Usage:
    """The usage of the month that contains the moment."""
    month = month_start(now_us).date()
    row = await (await db.execute(_QUOTA, (month, organization_id))).fetchone()
    if row is None:
        raise NotFoundError("the organization does not exist any more")
    cursor = await db.execute(_REJECTIONS, (organization_id, month))
    rejected = {
        code: RejectionCounts(events, requests)
        for code, events, requests in await cursor.fetchall()
    }
    quota, used = row
    return Usage(month, quota, used, rejected)
