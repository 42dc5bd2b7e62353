"""Usage: an organization's month in numbers, with its quota and its rejections by code."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Final
from uuid import UUID

from msgspec import Struct

from core.admin.errors import NotFoundError
from core.postgres.sessions import Connection
from core.timestamps import from_datetime, month_start, to_datetime

# Of a month, before its end is foretold: a smaller part says little of the rest.
MIN_FORECAST_TIME: Final = timedelta(days=1)
_MORE_THAN_A_MONTH: Final = timedelta(days=32)


class RejectionCounts(Struct, frozen=True):
    """The numbers of events rejected one by one, and of requests refused as a whole."""

    events: int
    requests: int


class Forecast(Struct, frozen=True):
    """A month's end, if events go on to come as they did in the month so far.

    That is their mean since the month began, or since the organization was made if that was later.
    ``events``: used by the end of the month, if the quota did not end before. ``quota_ends_on``:
    the day (UTC) on which the quota is used up, today if it is; None if not in this month.
    """

    events: int
    quota_ends_on: date | None


class Usage(Struct, frozen=True):
    """A calendar month (UTC). ``quota``: None for no quota.

    ``used``: accepted events and snapshots, up to date with every commit. ``rejected``: by error
    code; servers add to it every second. ``forecast``: None in the first day.
    """

    month: date
    quota: int | None
    used: int
    rejected: Mapping[str, RejectionCounts]
    forecast: Forecast | None

    @property
    def left(self) -> int | None:
        """The number of events that still fit; a quota lowered below its use leaves none."""
        return None if self.quota is None else max(self.quota - self.used, 0)


_QUOTA: Final = """
SELECT monthly_quota, COALESCE(used, 0), created_at
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
    quota, used, created_at = row
    forecast = _forecast(quota, used, created_at, now_us)
    return Usage(month, quota, used, rejected, forecast)


def _forecast(quota: int | None, used: int, created_at: datetime, now_us: int) -> Forecast | None:
    now, month = to_datetime(now_us), month_start(now_us)
    month_end = month_start(from_datetime(month + _MORE_THAN_A_MONTH))
    begin = max(month, created_at)
    if now - begin < MIN_FORECAST_TIME:
        return None
    events = round(used * ((month_end - begin) / (now - begin)))
    quota_ends_on = None
    if quota is not None and used >= quota:
        quota_ends_on = now.date()
    elif quota is not None and events > quota:
        quota_ends_on = (begin + (now - begin) * (quota / used)).date()
    return Forecast(events, quota_ends_on)
