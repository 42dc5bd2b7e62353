"""The audit log as operators read it: the latest changes, and those that come."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from msgspec import Struct

from core import ids
from core.admin import checks
from core.admin.errors import not_found
from core.postgres import directory
from core.postgres.sessions import Connection

# Entries of transactions that were begun this long before the newest one can still appear.
LATE_SECONDS: Final = 60
MAX_ENTRIES_A_POLL: Final = 1_000
_AFTER_ALL: Final = (1 << 63) - 1


class AuditEntry(Struct, frozen=True):
    """A change. ``is_done``: False if nobody knows whether it was made, as after a crash."""

    number: int
    at: datetime
    hand: str
    actor: str
    action: str
    organization_id: UUID | None
    organization_name: str | None
    subject: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    is_done: bool


class Selection(Struct, frozen=True):
    """The wanted entries: an organization's, by its id or its former name, or all."""

    organization_id: UUID | None = None
    former_name: str | None = None


_HAS_ENTRIES: Final = """
SELECT EXISTS (SELECT FROM audit WHERE organization_id = %s OR organization_name = %s)
"""


async def select(home: Connection, given: str | None) -> Selection:
    """The entries of the organization with that id or name, which may be gone; None for all.

    NotFoundError if there is neither the organization nor an entry of it.
    """
    if given is None:
        return Selection()
    given_id, name = ids.parse(ids.ORGANIZATION, given), checks.storable(given)
    place = await directory.find_organization(home, given_id, name)
    if place is not None:
        return Selection(place.id)
    row = await (await home.execute(_HAS_ENTRIES, (given_id, name))).fetchone()
    if row is None or not row[0]:
        names = [one.name for one in await directory.list_organizations(home)]
        raise not_found(
            "organization", given, names, "`wepeople-ingest org list` shows those there are"
        )
    return Selection(given_id) if given_id is not None else Selection(former_name=name)


_NEWEST: Final = """
SELECT id, at, hand, actor, action, organization_id, organization_name, subject, before, after, done
FROM audit
WHERE id < %(before)s
    AND (%(id)s::uuid IS NULL OR organization_id = %(id)s)
    AND (%(name)s::text IS NULL OR organization_name = %(name)s)
    AND (%(since)s::timestamptz IS NULL OR at >= %(since)s - %(late)s * interval '1 second')
    AND id <> ALL (%(seen)s::bigint[])
ORDER BY id DESC LIMIT %(limit)s
"""


async def newest(
    home: Connection,
    selection: Selection,
    limit: int,
    *,
    since: datetime | None = None,
    seen: frozenset[int] = frozenset(),
    before: int | None = None,
) -> list[AuditEntry]:
    """The latest entries, newest first.

    ``since``: not much older. ``seen``: without these. ``before``: with smaller numbers than this.
    """
    values = {
        "id": selection.organization_id,
        "name": selection.former_name,
        "since": since,
        "late": LATE_SECONDS,
        "seen": list(seen),
        "before": _AFTER_ALL if before is None else before,
        "limit": limit,
    }
    return [AuditEntry(*row) for row in await (await home.execute(_NEWEST, values)).fetchall()]


class Follower:
    """Follows the audit log: first :meth:`start`, then :meth:`news` repeatedly.

    An entry is told once, as it is when it is found: a change in another cell than home may be told
    when it is begun. No session is held in between.
    """

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self._since: datetime | None = None
        self._seen: dict[int, datetime] = {}

    async def start(self, home: Connection, limit: int) -> list[AuditEntry]:
        """The latest entries, oldest first. Older ones count as told, too."""
        found = await newest(home, self._selection, MAX_ENTRIES_A_POLL)
        row = await (await home.execute("SELECT clock_timestamp()")).fetchone()
        assert row is not None
        self._since = row[0]
        self._note(found)
        return found[:limit][::-1]

    async def news(self, home: Connection) -> list[AuditEntry]:
        """The entries that have come since, oldest first."""
        seen = frozenset(self._seen)
        found = await newest(
            home, self._selection, MAX_ENTRIES_A_POLL, since=self._since, seen=seen
        )
        self._note(found)
        return found[::-1]

    def _note(self, found: list[AuditEntry]) -> None:
        assert self._since is not None
        self._since = max([self._since, *(one.at for one in found)])
        self._seen.update((one.number, one.at) for one in found)
        # Those that are too old to be found again need not be known.
        self._seen = {
            number: at
            for number, at in self._seen.items()
            if (self._since - at).total_seconds() <= 2 * LATE_SECONDS
        }
