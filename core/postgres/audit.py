"""The audit log, in the home database: who changed what, of which organization, and when.

A change in the home cell and its entry are committed together. Elsewhere an entry is begun before
the change and finished after it, so that no change is without one. An entry has no key, no password
and nothing about a person but an id. Each function runs on a session of the home database.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple
from uuid import UUID

import msgspec

from core.postgres.sessions import Connection

KEPT_DAYS: Final = 400  # a year, and time to look back at it
MAX_CLEANED_AT_ONCE: Final = 10_000

Values = Mapping[str, object]


class Actor(NamedTuple):
    """``hand``: the program by which changes are made. ``name``: the person behind it."""

    hand: str
    name: str


SERVICE: Final = Actor("service", "")  # what it makes of its own, as for its demo


@dataclass
class Change:
    """A change, as the audit log has it. Whoever makes it sets ``before`` and ``after``.

    ``before``: None if the subject is new. ``after``: None if it is gone. Nothing has changed if
    they are equal.
    """

    action: str
    organization_id: UUID | None
    subject: str
    before: Values | None = None
    after: Values | None = None

    @property
    def is_none(self) -> bool:
        """Whether all is as it was."""
        return self.before is not None and self.before == self.after


_INSERT: Final = """
INSERT INTO audit (
    hand, actor, action, organization_id, organization_name, subject, before, after, done)
VALUES (%(hand)s, %(actor)s, %(action)s, %(organization)s,
    (SELECT name FROM directory_organizations WHERE id = %(organization)s),
    %(subject)s, %(before)s::json, %(after)s::json, %(done)s)
RETURNING id
"""
_FINISH: Final = """
UPDATE audit SET before = %s::json, after = %s::json, done = true WHERE id = %s
"""
_WITHDRAW: Final = "DELETE FROM audit WHERE id = %s AND NOT done"
_CLEAN: Final = """
DELETE FROM audit WHERE id = ANY (ARRAY(
    SELECT id FROM audit WHERE at < clock_timestamp() - %s * interval '1 day' LIMIT %s))
"""


async def record(home: Connection, actor: Actor, change: Change) -> None:
    """Enter a change that is made in the same transaction, unless there was nothing to change."""
    if not change.is_none:
        await _insert(home, actor, change, is_done=True)


async def begin(home: Connection, actor: Actor, change: Change) -> int:
    """Enter a change that is about to be made; returns the number of the entry."""
    return await _insert(home, actor, change, is_done=False)


async def finish(home: Connection, entry: int, change: Change) -> None:
    """Complete an entry that was begun, now that the change is made."""
    if change.is_none:
        await withdraw(home, entry)
    else:
        await home.execute(_FINISH, (_json(change.before), _json(change.after), entry))


async def withdraw(home: Connection, entry: int) -> None:
    """Delete an entry that was begun, of a change that was not made."""
    await home.execute(_WITHDRAW, (entry,))


async def clean(home: Connection) -> int:
    """Delete entries that are older than KEPT_DAYS, a bounded number; returns how many."""
    cursor = await home.execute(_CLEAN, (KEPT_DAYS, MAX_CLEANED_AT_ONCE))
    return cursor.rowcount


async def _insert(home: Connection, actor: Actor, change: Change, *, is_done: bool) -> int:
    values = {
        "hand": actor.hand,
        "actor": actor.name,
        "action": change.action,
        "organization": change.organization_id,
        "subject": change.subject,
        "before": _json(change.before),
        "after": _json(change.after),
        "done": is_done,
    }
    row = await (await home.execute(_INSERT, values)).fetchone()
    assert row is not None
    return int(row[0])


def _json(values: Values | None) -> str | None:
    return None if values is None else msgspec.json.encode(values).decode()
