"""The whitelist of an app: the event types that it may send.

core/rules/event_batch.py applies it. A change is in force on every server within a second.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from uuid import UUID

from core import ids
from core.admin import checks
from core.admin.cell_sessions import CellSession
from core.admin.errors import InvalidValueError, NotFoundError
from core.rules import fields


def check_types(event_types: Iterable[str]) -> list[str]:
    """Valid event types, each once, in the order in which a whitelist has them.

    Raises InvalidValueError for one that breaks the rules.
    """
    return sorted(
        {checks.checked("event type", fields.type_name, event_type) for event_type in event_types}
    )


# Both in one statement, so that operators who change the same list at once both succeed.
_ALLOW: Final = """
UPDATE apps SET allowed_event_types = ARRAY(
    SELECT DISTINCT t COLLATE "C" FROM unnest(allowed_event_types || %s::text[]) AS t ORDER BY 1)
WHERE organization_id = %s AND id = %s
RETURNING allowed_event_types
"""


async def allow(
    cell: CellSession, organization_id: UUID, app_id: UUID, event_types: Iterable[str]
) -> list[str]:
    """Add event types, some of which may be there already; returns the whole list."""
    types = _some(event_types)
    async with cell.changing(organization_id):
        row = await (await cell.db.execute(_ALLOW, (types, organization_id, app_id))).fetchone()
    if row is None:
        raise NotFoundError(f"there is no app {ids.text(ids.APP, app_id)}")
    return list(row[0])


_DENY: Final = """
UPDATE apps SET allowed_event_types = ARRAY(
    SELECT t COLLATE "C" FROM unnest(allowed_event_types) AS t
    WHERE t <> ALL (%(types)s) ORDER BY 1)
WHERE organization_id = %(organization)s AND id = %(app)s AND allowed_event_types @> %(types)s
RETURNING allowed_event_types
"""
_READ: Final = "SELECT allowed_event_types FROM apps WHERE organization_id = %s AND id = %s"


async def deny(
    cell: CellSession, organization_id: UUID, app_id: UUID, event_types: Iterable[str]
) -> list[str]:
    """Take event types off the list; returns the rest of it.

    If one is not on the list, NotFoundError is raised and nothing is changed: a misspelled type
    would otherwise leave the one that was meant allowed.
    """
    types = _some(event_types)
    values = {"types": types, "organization": organization_id, "app": app_id}
    async with cell.changing(organization_id):
        row = await (await cell.db.execute(_DENY, values)).fetchone()
    if row is None:
        row = await (await cell.db.execute(_READ, (organization_id, app_id))).fetchone()
        if row is None:
            raise NotFoundError(f"there is no app {ids.text(ids.APP, app_id)}")
        missing = [event_type for event_type in types if event_type not in row[0]]
        raise NotFoundError(f"not on the whitelist, so nothing was changed: {', '.join(missing)}")
    return list(row[0])


def _some(event_types: Iterable[str]) -> list[str]:
    types = check_types(event_types)
    if not types:
        raise InvalidValueError("name at least one event type")
    return types
