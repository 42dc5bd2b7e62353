"""The step of migration 0005 that SQL cannot do: e-mail keys by Unicode case folding.

Earlier releases compared e-mails in lower case, so that workers may have e-mails that are equal
now. The oldest worker keeps the e-mail's match. The others keep theirs as text: an id or a link
leads to them, and no e-mail. Nothing is merged.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from core import ids
from core.emails import email_key
from core.postgres.sessions import Connection


class _Worker(NamedTuple):
    created_at: datetime  # first, for the oldest to be the least
    id: UUID
    organization_id: UUID
    email: str
    email_key: str | None

    @property
    def folded(self) -> tuple[UUID, str]:
        return (self.organization_id, email_key(self.email))


# Of ASCII alone, lower case is case folding.
_NOT_ASCII: Final = """
SELECT created_at, id, organization_id, email, email_key FROM workers
WHERE octet_length(email) <> char_length(email)
"""

_HOLDERS: Final = """
SELECT created_at, id, organization_id, email, email_key
FROM unnest(%s::uuid[], %s::text[]) AS folded (organization_id, email_key)
JOIN workers USING (organization_id, email_key)
"""

_SET_KEYS: Final = """
UPDATE workers SET email_key = folded.email_key
FROM unnest(%s::uuid[], %s::uuid[], %s::text[]) AS folded (organization_id, id, email_key)
WHERE workers.organization_id = folded.organization_id AND workers.id = folded.id
"""


async def fold(db: Connection) -> list[str]:
    """Fold the keys of all workers; returns a line about each that lost its e-mail's match."""
    changed = [
        worker
        for worker in map(_Worker._make, await (await db.execute(_NOT_ASCII)).fetchall())
        if worker.email_key != worker.folded[1]
    ]
    keys = sorted({worker.folded for worker in changed})
    cursor = await db.execute(_HOLDERS, ([key[0] for key in keys], [key[1] for key in keys]))
    equal: defaultdict[tuple[UUID, str], set[_Worker]] = defaultdict(set)
    for worker in [*changed, *map(_Worker._make, await cursor.fetchall())]:
        equal[worker.folded].add(worker)
    # First all give up their keys, as each is unique.
    await _set_keys(db, {worker: None for workers in equal.values() for worker in workers})
    await _set_keys(db, {min(workers): key for (_, key), workers in equal.items()})
    return [
        _line(worker, min(workers))
        for workers in equal.values()
        for worker in sorted(workers)
        if worker is not min(workers)
    ]


async def _set_keys(db: Connection, keys: dict[_Worker, str | None]) -> None:
    values = (
        [worker.organization_id for worker in keys],
        [worker.id for worker in keys],
        list(keys.values()),
    )
    await db.execute(_SET_KEYS, values)


def _line(worker: _Worker, oldest: _Worker) -> str:
    return (
        f"worker {ids.text(ids.WORKER, worker.id)} of {_organization(worker)} has the e-mail of "
        f"{ids.text(ids.WORKER, oldest.id)}, who is older and keeps its match: an id or an "
        "externalId leads to the former, no e-mail"
    )


def _organization(worker: _Worker) -> str:
    return ids.text(ids.ORGANIZATION, worker.organization_id)
