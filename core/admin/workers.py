"""Workers: an organization's people as operators see them, with the ids that apps have for them.

Events find and create their workers in core/journal/workers.py.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Final, LiteralString
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
    """A worker with everything that the database has about the person.

    ``other_emails``: of workers that were merged into this one. ``merged_into``: the worker that
    this one is only another name of.
    """

    id: UUID
    display_name: str
    email: str | None
    created_at: datetime
    erased_at: datetime | None = None
    merged_into: UUID | None = None
    other_emails: Sequence[str] = ()
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
        raise email_taken(email) from error
    return worker


def email_taken(email: object) -> AlreadyExistsError:
    """The refusal of an e-mail that another worker of the organization has."""
    return AlreadyExistsError(
        f"a worker with the e-mail {email!r} exists already in this organization"
    )


_SELECT: Final = """
SELECT workers.id, display_name, email, workers.created_at, erased_at, merged_into,
    ARRAY(SELECT other.email FROM workers AS other
        WHERE other.organization_id = workers.organization_id AND other.merged_into = workers.id
            AND other.email_key IS NOT NULL
        ORDER BY other.email),
    array_remove(array_agg(slug ORDER BY slug, external_id), NULL),
    array_remove(array_agg(external_id ORDER BY slug, external_id), NULL)
FROM workers
LEFT JOIN worker_links ON worker_links.organization_id = workers.organization_id
    AND worker_id = workers.id
LEFT JOIN apps ON apps.organization_id = workers.organization_id AND apps.id = app_id
WHERE workers.organization_id = %(organization)s
    AND (workers.id = ANY (%(only)s)
        OR %(only)s::uuid[] IS NULL AND merged_into IS NULL AND erased_at IS NULL)
GROUP BY workers.organization_id, workers.id
ORDER BY display_name, workers.id
"""


async def of_organization(db: Connection, organization_id: UUID) -> list[WorkerDetails]:
    """Every worker of an organization, by name, without those that were merged or erased."""
    return await _select(db, organization_id, None)


# The inner query takes the rows off the index before their links are looked for.
_PAGE: Final = """
SELECT worker.id, display_name, email, worker.created_at, erased_at, merged_into,
    ARRAY(SELECT other.email FROM workers AS other
        WHERE other.organization_id = worker.organization_id AND other.merged_into = worker.id
            AND other.email_key IS NOT NULL
        ORDER BY other.email),
    array_remove(array_agg(slug ORDER BY slug, external_id), NULL),
    array_remove(array_agg(external_id ORDER BY slug, external_id), NULL)
FROM (
    SELECT * FROM workers
    WHERE organization_id = %(organization)s AND id >= %(first)s AND id <= %(last)s
        AND (id = %(only)s OR merged_into IS NULL AND erased_at IS NULL)
        AND (%(search)s::text IS NULL OR starts_with(lower(display_name), lower(%(search)s))
            OR starts_with(lower(email), lower(%(search)s)))
    ORDER BY id
    LIMIT %(limit)s
) AS worker
LEFT JOIN worker_links ON worker_links.organization_id = worker.organization_id
    AND worker_id = worker.id
LEFT JOIN apps ON apps.organization_id = worker.organization_id AND apps.id = app_id
GROUP BY worker.organization_id, worker.id, display_name, email, worker.created_at, erased_at,
    merged_into
ORDER BY worker.id
"""


async def page(
    db: Connection,
    organization_id: UUID,
    limit: int,
    after: UUID | None = None,
    search: str | None = None,
) -> list[WorkerDetails]:
    """The workers after that one, the first who was made first, without merged and erased ones.

    ``search``: only those whose name or e-mail begins so, in whatever case.
    """
    values = {
        "first": ids.NIL if after is None else ids.next_to(after),
        "last": ids.MAX,
        "only": None,
        "limit": limit,
        "search": search,
    }
    return await _fetched(db, _PAGE, {"organization": organization_id, **values})


async def get(db: Connection, organization_id: UUID, worker_id: UUID) -> WorkerDetails:
    """The worker of an organization with that id; NotFoundError if there is none.

    A worker that was merged leads to the one it was merged into.
    """
    values = {"organization": organization_id, "limit": 1, "search": None}
    values |= dict.fromkeys(("first", "last", "only"), worker_id)
    for worker in await _fetched(db, _PAGE, values):
        if worker.merged_into is not None:
            return await get(db, organization_id, worker.merged_into)
        return worker
    raise NotFoundError(
        f"there is no worker {ids.text(ids.WORKER, worker_id)} in this organization"
    )


_BY_ID_OR_EMAIL: Final = """
SELECT id, merged_into, COALESCE(id = %(id)s, false) FROM workers
WHERE organization_id = %(organization)s AND (id = %(id)s OR email_key = %(email_key)s)
"""
_BY_EXTERNAL_ID: Final = """
SELECT worker_id FROM worker_links WHERE organization_id = %s AND external_id = %s
"""


async def find(
    db: Connection, organization_id: UUID, given: str, *, follow: bool = True
) -> WorkerDetails:
    """The worker with that id, else with that e-mail, else with that external id in an app.

    An e-mail is that of the one worker who has its match. A worker that was merged leads to the one
    it was merged into, unless ``follow`` is False. An erased one is found by its id. NotFoundError
    if there is none, or if the external id is that of several workers.
    """
    text = checks.storable(given)
    values = {
        "organization": organization_id,
        "id": ids.parse(ids.WORKER, given),
        "email_key": text and email_key(text),
    }
    cursor = await db.execute(_BY_ID_OR_EMAIL, values)
    # By the id, if one has it, before the e-mail.
    named = sorted(await cursor.fetchall(), key=lambda row: not row[2])[:1]
    wanted = {(follow and merged_into) or its_id for its_id, merged_into, _ in named}
    if not wanted:
        cursor = await db.execute(_BY_EXTERNAL_ID, (organization_id, text))
        wanted = {row[0] for row in await cursor.fetchall()}
    found = await _select(db, organization_id, wanted) if wanted else []
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
    db: Connection, organization_id: UUID, only: Collection[UUID] | None
) -> list[WorkerDetails]:
    """The workers of these ids, whatever became of them; None for all that events can find."""
    values = {"organization": organization_id, "only": None if only is None else list(only)}
    return await _fetched(db, _SELECT, values)


async def _fetched(
    db: Connection, statement: LiteralString, values: Mapping[str, object]
) -> list[WorkerDetails]:
    return [
        WorkerDetails(
            its_id,
            name,
            email,
            created,
            erased,
            into,
            tuple(others),
            tuple(map(Link, slugs, externals)),
        )
        for its_id, name, email, created, erased, into, others, slugs, externals in (
            await (await db.execute(statement, values)).fetchall()
        )
    ]
