"""Rejections as operators look them up: the latest of an organization, and those that come."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Final
from uuid import UUID

from msgspec import Struct

from core import ids
from core.admin.errors import InvalidValueError
from core.error_codes import ErrorCode
from core.postgres.sessions import Connection


class RejectionRecord(Struct, frozen=True):
    """One refusal. ``index``: of the refused item; None if the request was refused as a whole.

    ``field``: the path of the member that is wrong, if the message names one. ``item``: the refused
    item as JSON text, if the service keeps that; it can be cut at its end.
    """

    id: UUID
    request_id: str
    index: int | None
    code: str
    field: str | None
    message: str
    app_slug: str
    key_hint: str
    item: str | None

    @property
    def received_us(self) -> int:
        """The time of the refusal, in microseconds since the epoch, exact to the millisecond."""
        return ids.created_us(self.id)


class Selection(Struct, frozen=True):
    """The wanted rejections: an organization's, perhaps of one code, app or request only."""

    organization_id: UUID
    code: str | None = None
    app_slug: str | None = None
    request_id: str | None = None


def check_code(given: str) -> str:
    """A code that rejections have; InvalidValueError for any other text."""
    if given not in list(ErrorCode):
        close = get_close_matches(given, list(ErrorCode), n=1)
        hint = f"did you mean {close[0]}?" if close else f"it is one of {', '.join(ErrorCode)}"
        raise InvalidValueError(f"there is no code {given!r}: {hint}")
    return given


_NEWEST: Final = """
SELECT id, request_id, item_index, code, field, message, app_slug, key_hint, item
FROM rejections
WHERE organization_id = %(organization)s AND id < %(before)s
    AND (%(code)s::text IS NULL OR code = %(code)s)
    AND (%(app)s::text IS NULL OR app_slug = %(app)s)
    AND (%(request)s::text IS NULL OR request_id = %(request)s)
    AND (%(only)s::uuid[] IS NULL OR id = ANY(%(only)s))
ORDER BY id DESC
LIMIT %(limit)s
"""
_IDS: Final = "SELECT id FROM rejections WHERE organization_id = %s"


async def newest(
    db: Connection,
    selection: Selection,
    limit: int | None,
    only: list[UUID] | None = None,
    before: UUID | None = None,
) -> list[RejectionRecord]:
    """The latest rejections, newest first.

    ``only``: those of these ids. ``before``: those with smaller ids than this one.
    """
    values = {
        "organization": selection.organization_id,
        "code": selection.code,
        "app": selection.app_slug,
        "request": selection.request_id,
        "only": only,
        "before": before or ids.MAX,
        "limit": limit,
    }
    return [RejectionRecord(*row) for row in await (await db.execute(_NEWEST, values)).fetchall()]


class Follower:
    """Follows an organization's rejections: first :meth:`start`, then :meth:`news` repeatedly.

    Each process writes its own a second after they were noted, so the order of their ids is not
    that of their arrival. Few enough are kept to look at the ids of all. No session is held in
    between.
    """

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self._seen: set[UUID] = set()

    async def start(self, db: Connection, limit: int) -> list[RejectionRecord]:
        """The latest rejections, oldest first. Older ones count as told, too."""
        self._seen = await self._ids(db)
        found = await newest(db, self._selection, limit, list(self._seen))
        return found[::-1]

    async def news(self, db: Connection) -> list[RejectionRecord]:
        """The rejections that have come since, oldest first."""
        ids_now = await self._ids(db)
        news, self._seen = ids_now - self._seen, ids_now
        if not news:
            return []
        return (await newest(db, self._selection, None, list(news)))[::-1]

    async def _ids(self, db: Connection) -> set[UUID]:
        cursor = await db.execute(_IDS, (self._selection.organization_id,))
        return {row[0] for row in await cursor.fetchall()}
