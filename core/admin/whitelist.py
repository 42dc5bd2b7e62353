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
from core.postgres.audit import Change
from core.rules import fields


def check_types(event_types: Iterable[str]) -> list[str]:
    """Valid event types, each once, in the order in which a whitelist has them.

    Raises InvalidValueError for one that breaks the rules.
    """
    return sorted(
        {checks.checked("event type", fields.type_name, event_type) for event_type in event_types}
    )


# The row is locked, so that operators who change the same list at once both succeed.
_READ: Final = """
SELECT allowed_event_types FROM apps WHERE organization_id = %s AND id = %s FOR UPDATE
"""

_ALLOW: Final = """
UPDATE apps SET allowed_event_types = ARRAY(
    SELECT DISTINCT t COLLATE "C" FROM unnest(allowed_event_types || %(types)s::text[]) AS t
    ORDER BY 1)
WHERE organization_id = %(organization)s AND id = %(app)s
RETURNING allowed_event_types
"""


async def allow(
    cell: CellSession, organization_id: UUID, app_id: UUID, event_types: Iterable[str]
) -> list[str]:
    """Add event types, some of which may be there already; returns the whole list."""
    types = _some(event_types)
    return await _change(cell, "app.allow", _ALLOW, types, organization_id, app_id)


_DENY: Final = """
UPDATE apps SET allowed_event_types = ARRAY(
    SELECT t COLLATE "C" FROM unnest(allowed_event_types) AS t
    WHERE t <> ALL (%(types)s) ORDER BY 1)
WHERE organization_id = %(organization)s AND id = %(app)s AND allowed_event_types @> %(types)s
RETURNING allowed_event_types
"""


async def deny(
    cell: CellSession, organization_id: UUID, app_id: UUID, event_types: Iterable[str]
) -> list[str]:
    """Take event types off the list; returns the rest of it.

    If one is not on the list, NotFoundError is raised and nothing is changed: a misspelled type
    would otherwise leave the one that was meant allowed.
    """
    types = _some(event_types)
    return await _change(cell, "app.deny", _DENY, types, organization_id, app_id)


async def _change(
    cell: CellSession,
    action: str,
    statement: str,
    types: list[str],
    organization_id: UUID,
    app_id: UUID,
) -> list[str]:
    app = ids.text(ids.APP, app_id)
    values = {"types": types, "organization": organization_id, "app": app_id}
    change = Change(action, organization_id, app)
    async with cell.changing(change):
        before = await (await cell.db.execute(_READ, (organization_id, app_id))).fetchone()
        if before is None:
            raise NotFoundError(f"there is no app {app}")
        after = await (await cell.db.execute(statement, values)).fetchone()
        if after is None:
            missing = ", ".join(one for one in types if one not in before[0])
            raise NotFoundError(f"not on the whitelist, so nothing was changed: {missing}")
        change.before = {"allowedEventTypes": before[0]}
        change.after = {"allowedEventTypes": after[0]}
    return list(after[0])


def _some(event_types: Iterable[str]) -> list[str]:
    types = check_types(event_types)
    if not types:
        raise InvalidValueError("name at least one event type")
    return types
