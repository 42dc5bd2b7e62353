"""The traffic of an organization's apps by the minute (core/journal/traffic.py)."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

from msgspec import Struct

from core.admin.errors import InvalidValueError
from core.journal.traffic import KEPT_MINUTES
from core.postgres.sessions import Connection
from core.timestamps import US_PER_MINUTE, to_datetime

MAX_APP_MINUTES: Final = 100_000  # of one answer


class AppMinute(Struct, frozen=True):
    """An app's requests and batches of streams that were answered in a minute.

    ``accepted`` and ``rejected``: their events and snapshots. ``mean_milliseconds`` and
    ``slowest_milliseconds``: from the decoded request to its answer.
    """

    minute: datetime
    app_id: UUID
    app_slug: str
    requests: int
    accepted: int
    rejected: int
    mean_milliseconds: float
    slowest_milliseconds: float


_RECENT: Final = """
SELECT minute, app_id, slug, requests, accepted, rejected, milliseconds / requests, slowest
FROM traffic JOIN apps ON apps.organization_id = traffic.organization_id AND apps.id = app_id
WHERE traffic.organization_id = %s AND minute > %s AND minute <= %s
ORDER BY minute DESC, slug
LIMIT %s
"""


async def recent(
    db: Connection, organization_id: UUID, minutes: int, now_us: int
) -> list[AppMinute]:
    """The traffic of the last so many minutes, this one included, the newest first.

    Minutes without any are left out. Of more than ``MAX_APP_MINUTES`` the newest are returned.
    Servers add to them every second. InvalidValueError unless so many minutes are kept.
    """
    if not 1 <= minutes <= KEPT_MINUTES:
        raise InvalidValueError(f"the minutes must be 1 to {KEPT_MINUTES}: no more are kept")
    first_us = now_us - minutes * US_PER_MINUTE
    values = (organization_id, to_datetime(first_us), to_datetime(now_us), MAX_APP_MINUTES)
    return [AppMinute(*row) for row in await (await db.execute(_RECENT, values)).fetchall()]
