"""Apps: an organization's integrations. The events of one have the source ``custom:<slug>``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from msgspec import Struct
from psycopg.errors import UniqueViolation

from core import ids
from core.admin import checks, whitelist
from core.admin.cell_sessions import CellSession, CellSessions
from core.admin.errors import AlreadyExistsError, InvalidValueError, NotFoundError, not_found
from core.admin.organizations import Organization
from core.postgres import directory
from core.postgres.audit import Change
from core.postgres.directory import CellRecord
from core.postgres.sessions import Connection
from core.timestamps import to_datetime

MAX_SLUG_CHARACTERS: Final = 64
SOURCE_PREFIX: Final = "custom:"

_SLUG: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\Z")


class App(Struct, frozen=True):
    """An integration, with its whitelist and its organization."""

    id: UUID
    organization_id: UUID
    organization_name: str
    slug: str
    name: str
    allowed_event_types: list[str]
    created_at: datetime


def source(slug: str) -> str:
    """The source of an app's events, as the timeline shows it."""
    return SOURCE_PREFIX + slug


def check_slug(value: str) -> str:
    """A slug: part of every event's source, so short, lower-case and free of separators."""
    if len(value) > MAX_SLUG_CHARACTERS or not _SLUG.match(value):
        raise InvalidValueError(
            f"the slug {value[: MAX_SLUG_CHARACTERS + 1]!r} must be 1 to {MAX_SLUG_CHARACTERS} "
            "characters of a-z 0-9 - that start and end with a letter or digit, like crm-hub"
        )
    return value


_INSERT: Final = """
INSERT INTO apps (organization_id, id, slug, name, allowed_event_types, created_at)
VALUES (%s, %s, %s, %s, %s, %s)
"""


async def create(
    cell: CellSession,
    organization: Organization,
    slug: str,
    name: str,
    allowed_event_types: Iterable[str],
    now_us: int,
) -> App:
    """Create an app; AlreadyExistsError if the organization has one of that slug."""
    app = App(
        ids.new(now_us),
        organization.id,
        organization.name,
        check_slug(slug),
        checks.name("app name", name),
        whitelist.check_types(allowed_event_types),
        to_datetime(now_us),
    )
    row = (app.organization_id, app.id, slug, name, app.allowed_event_types, app.created_at)
    change = Change("app.create", app.organization_id, ids.text(ids.APP, app.id))
    change.after = {"slug": slug, "name": name, "allowedEventTypes": app.allowed_event_types}
    try:
        async with cell.recording(change):
            await cell.db.execute(_INSERT, row)
    except UniqueViolation as error:  # of the slug: the id is new
        raise AlreadyExistsError(
            f"an app {slug!r} exists already in the organization {organization.name!r}"
        ) from error
    return app


_LIST: Final = """
SELECT apps.id, organizations.id, organizations.name, slug, apps.name, allowed_event_types,
    apps.created_at
FROM apps JOIN organizations ON organizations.id = organization_id
WHERE %(organization)s::uuid IS NULL OR organization_id = %(organization)s
ORDER BY organizations.name, slug
"""


async def of_organization(db: Connection, organization_id: UUID | None = None) -> list[App]:
    """The apps of an organization, or of all of them, by organization and slug."""
    cursor = await db.execute(_LIST, {"organization": organization_id})
    return [App(*row) for row in await cursor.fetchall()]


_PAGE: Final = """
SELECT apps.id, organizations.id, organizations.name, slug, apps.name, allowed_event_types,
    apps.created_at
FROM apps JOIN organizations ON organizations.id = organization_id
WHERE organization_id = %s AND slug > %s
ORDER BY slug LIMIT %s
"""


async def page(
    db: Connection, organization_id: UUID, limit: int, after: str | None = None
) -> list[App]:
    """The apps of an organization after that slug, by slug."""
    cursor = await db.execute(_PAGE, (organization_id, after or "", limit))
    return [App(*row) for row in await cursor.fetchall()]


async def list_everywhere(cells: CellSessions) -> list[App]:
    """The apps of all cells, by organization and slug."""
    found = await cells.everywhere(of_organization)
    apps = [app for _, app in found]
    # One cell's are in the database's order, which may know more of a language than Python.
    several = len({cell for cell, _ in found}) > 1
    return sorted(apps, key=lambda app: (app.organization_name, app.slug)) if several else apps


_FIND: Final = """
SELECT apps.id, organizations.id, organizations.name, slug, apps.name, allowed_event_types,
    apps.created_at
FROM apps JOIN organizations ON organizations.id = organization_id
WHERE (apps.id = %(id)s OR slug = %(slug)s
        AND (%(anywhere)s OR organizations.name = %(name)s OR organizations.id = %(named_id)s))
    AND (%(organization)s::uuid IS NULL OR organization_id = %(organization)s)
ORDER BY organizations.name
"""


async def find(db: Connection, given: str, organization_id: UUID | None = None) -> App:
    """The app of a cell with that id or slug, or ``ORGANIZATION/SLUG``.

    Only the apps of ``organization_id`` count if one is given. NotFoundError if there is none, or
    if apps of several organizations have the slug.
    """
    found = await _matching(db, given, organization_id)
    if len(found) == 1:
        return found[0]
    known = [] if found else await of_organization(db, organization_id)
    raise _refusal(given, found, known)


async def get(db: Connection, organization_id: UUID, app_id: UUID) -> App:
    """The app of an organization with that id; NotFoundError if there is none."""
    given = ids.text(ids.APP, app_id)
    for app in await _matching(db, given, organization_id):
        return app
    raise NotFoundError(f"there is no app {given} in this organization")


async def find_everywhere(cells: CellSessions, given: str) -> tuple[CellSession, App]:
    """As :func:`find`, in all cells, with the cell that it is found in."""
    found = await _everywhere(cells, given)
    if len(found) == 1:
        record, app = found[0]
        return await cells.named(record.name), app
    if not found:
        cells.check_all_answered()
    known = [] if found else await cells.everywhere(of_organization)
    raise _refusal(given, [app for _, app in found], [app for _, app in known])


async def _everywhere(cells: CellSessions, given: str) -> list[tuple[CellRecord, App]]:
    """The apps that are called so; those of a named organization are looked for in its cell."""
    organization, slash, slug = given.rpartition("/")
    if slash:
        owner_id, name = ids.parse(ids.ORGANIZATION, organization), checks.storable(organization)
        owner = await directory.find_organization(cells.home, owner_id, name)
        if owner is not None:
            cell = await cells.named(owner.cell)
            return [(cell.record, app) for app in await _matching(cell.db, slug, owner.id)]
    return await cells.everywhere(lambda db: _matching(db, given, None))


async def _matching(db: Connection, given: str, organization_id: UUID | None) -> list[App]:
    """The apps that are called so; those of one organization at most once."""
    organization, slash, slug = given.rpartition("/")
    values = {
        "id": ids.parse(ids.APP, given),
        "slug": slug if _SLUG.match(slug) else None,
        "anywhere": not slash,
        "name": checks.storable(organization),
        "named_id": ids.parse(ids.ORGANIZATION, organization),
        "organization": organization_id,
    }
    return [App(*row) for row in await (await db.execute(_FIND, values)).fetchall()]


def _refusal(given: str, found: Sequence[App], known: Sequence[App]) -> NotFoundError:
    """The error if not one app is called so. ``known``: those there are, if none is."""
    if found:
        where = ", ".join(
            f"{app.organization_name}/{app.slug} ({ids.text(ids.APP, app.id)})" for app in found
        )
        return NotFoundError(f"{given!r} is an app of several organizations, name one: {where}")
    names = [f"{app.organization_name}/{app.slug}" if "/" in given else app.slug for app in known]
    return not_found("app", given, names, "`wepeople-ingest app list` shows those there are")
