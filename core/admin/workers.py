"""Workers: an organization's people as operators see them, with the ids that apps have for them.

Events find and create their workers in core/journal/workers.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from msgspec import Struct
from psycopg.errors import UniqueViolation

from core import ids
from core.admin import checks
from core.admin.cell_sessions import CellSession
from core.admin.errors import AlreadyExistsError, NotFoundError
from core.emails import email_key
from core.postgres.audit import Change
from core.postgres.sessions import Connection
from core.rules import fields
from core.timestamps import to_datetime


class Link(Struct, frozen=True):
    """An app's own id for a worker."""

    app_slug: str
    external_id: str


class WorkerDetails(Struct, frozen=True):
    """A worker with everything that the database has about the person."""

    id: UUID
    display_name: str
    email: str | None
    created_at: datetime
    links: Sequence[Link] = ()


_CREATE: Final = """
INSERT INTO workers (organization_id, id, display_name, email, email_key, created_at)
VALUES (%s, %s, %s, %s, %s, %s)
"""


async def create(
    cell: CellSession, organization_id: UUID, display_name: str, email: str | None, now_us: int
) -> WorkerDetails:
    """Create a worker before the first event; AlreadyExistsError if another has the e-mail."""
    checks.name("worker name", display_name)
    if email is not None:
        checks.checked("e-mail", fields.email, email)
    worker = WorkerDetails(ids.new(now_us), display_name, email, to_datetime(now_us))
    key = None if email is None else email_key(email)
    row = (organization_id, worker.id, display_name, email, key, worker.created_at)
    change = Change("worker.create", organization_id, ids.text(ids.WORKER, worker.id))
    change.after = {}  # nothing about the person, who may be erased one day
    try:
        async with cell.recording(change):
            await cell.db.execute(_CREATE, row)
    except UniqueViolation as error:  # of the e-mail: the id is new
        raise AlreadyExistsError(
            f"a worker with the e-mail {email!r} exists already in this organization"
        ) from error
    return worker


_SELECT: Final = """
SELECT workers.id, display_name, email, workers.created_at,
    array_remove(array_agg(slug ORDER BY slug, external_id), NULL),
    array_remove(array_agg(external_id ORDER BY slug, external_id), NULL),
    workers.id = %(id)s, COALESCE(email_key = %(email_key)s, false)
FROM workers
LEFT JOIN worker_links ON worker_links.organization_id = workers.organization_id
    AND worker_id = workers.id
LEFT JOIN apps ON apps.organization_id = workers.organization_id AND apps.id = app_id
WHERE workers.organization_id = %(organization)s AND (%(any)s OR workers.id = %(id)s
    OR email_key = %(email_key)s OR external_id = %(external_id)s)
GROUP BY workers.organization_id, workers.id
ORDER BY display_name, workers.id
"""


async def of_organization(db: Connection, organization_id: UUID) -> list[WorkerDetails]:
    """Every worker of an organization, by name."""
    values = {"any": True, "id": None, "email_key": None, "external_id": None}
    return [worker for worker, _, _ in await _select(db, organization_id, values)]


# The inner query takes the rows off the index before their links are looked for.
_PAGE: Final = """
SELECT worker.id, display_name, email, worker.created_at,
    array_remove(array_agg(slug ORDER BY slug, external_id), NULL),
    array_remove(array_agg(external_id ORDER BY slug, external_id), NULL)
FROM (
    SELECT * FROM workers
    WHERE organization_id = %(organization)s AND id >= %(first)s AND id <= %(last)s
        AND (%(search)s::text IS NULL OR starts_with(lower(display_name), lower(%(search)s))
            OR starts_with(lower(email), lower(%(search)s)))
    ORDER BY id
    LIMIT %(limit)s
) AS worker
LEFT JOIN worker_links ON worker_links.organization_id = worker.organization_id
    AND worker_id = worker.id
LEFT JOIN apps ON apps.organization_id = worker.organization_id AND apps.id = app_id
GROUP BY worker.organization_id, worker.id, display_name, email, worker.created_at
ORDER BY worker.id
"""


async def page(
    db: Connection,
    organization_id: UUID,
    limit: int,
    after: UUID | None = None,
    search: str | None = None,
) -> list[WorkerDetails]:
    """The workers of an organization after that one, the first who was made first.

    ``search``: only those whose name or e-mail begins so, in whatever case.
    """
    first = ids.NIL if after is None else ids.next_to(after)
    return await _range(db, organization_id, first, ids.MAX, limit, search)


async def get(db: Connection, organization_id: UUID, worker_id: UUID) -> WorkerDetails:
    """The worker of an organization with that id; NotFoundError if there is none."""
    for worker in await _range(db, organization_id, worker_id, worker_id, 1, None):
        return worker
    raise NotFoundError(
        f"there is no worker {ids.text(ids.WORKER, worker_id)} in this organization"
    )


async def _range(
    db: Connection, organization_id: UUID, first: UUID, last: UUID, limit: int, search: str | None
) -> list[WorkerDetails]:
    values = {
        "organization": organization_id,
        "first": first,
        "last": last,
        "limit": limit,
        "search": search,
    }
    return [
        WorkerDetails(worker_id, name, email, created_at, tuple(map(Link, slugs, external_ids)))
        for worker_id, name, email, created_at, slugs, external_ids in await (
            await db.execute(_PAGE, values)
        ).fetchall()
    ]


async def find(db: Connection, organization_id: UUID, given: str) -> WorkerDetails:
    """The worker with that id, else with that e-mail, else with that external id in an app.

    An e-mail is that of the one worker who has its match. NotFoundError if there is none, or if the
    external id is that of several workers.
    """
    text = checks.storable(given)
    worker_id = ids.parse(ids.WORKER, given)
    values = {
        "any": False,
        "id": worker_id,
        "email_key": text and email_key(text),
        "external_id": text,
    }
    selected = await _select(db, organization_id, values)
    by_id = [worker for worker, has_id, _ in selected if has_id]
    by_email = [worker for worker, _, has_email in selected if has_email]
    found = by_id or by_email or [worker for worker, _, _ in selected]
    if len(found) > 1:
        which = ", ".join(
            f"{ids.text(ids.WORKER, worker.id)} ({worker.display_name})" for worker in found
        )
        raise NotFoundError(f"{given!r} is what apps call several workers, name one: {which}")
    if not found:
        raise NotFoundError(
            f"there is no worker {given!r} in this organization: give an id, an e-mail or an "
            "externalId; `wepeople-ingest worker list` shows those there are"
        )
    return found[0]


async def _select(
    db: Connection, organization_id: UUID, values: Mapping[str, object]
) -> list[tuple[WorkerDetails, bool, bool]]:
    """Workers, and whether each has the id and whether it has the e-mail's match."""
    cursor = await db.execute(_SELECT, {"organization": organization_id, **values})
    return [
        (
            WorkerDetails(
                worker_id, name, email, created_at, tuple(map(Link, slugs, external_ids))
            ),
            has_id,
            has_email,
        )
        for (worker_id, name, email, created_at, slugs, external_ids, has_id, has_email) in (
            await cursor.fetchall()
        )
    ]
