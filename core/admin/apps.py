"""Apps: an organization's integrations. The events of one have the source ``custom:<slug>``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Final
from uuid import UUID

from msgspec import Struct
from psycopg.errors import UniqueViolation

from core import ids
from core.admin import checks, whitelist
from core.admin.errors import AlreadyExistsError, InvalidValueError, NotFoundError, not_found
from core.admin.organizations import Organization
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
    db: Connection,
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
    try:
        await db.execute(_INSERT, row)
    except UniqueViolation as error:  # the id is new, so it is the slug
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
    """The app with that id or slug, or ``ORGANIZATION/SLUG``.

    Only the apps of ``organization_id`` count if one is given. NotFoundError if there is none, or
    if apps of several organizations have the slug.
    """
    organization, slash, slug = given.rpartition("/")
    values = {
        "id": ids.parse(ids.APP, given),
        "slug": slug if _SLUG.match(slug) else None,
        "anywhere": not slash,
        "name": checks.storable(organization),
        "named_id": ids.parse(ids.ORGANIZATION, organization),
        "organization": organization_id,
    }
    rows = await (await db.execute(_FIND, values)).fetchall()
    found = [App(*row) for row in rows]
    if len(found) > 1:
        where = ", ".join(
            f"{app.organization_name}/{app.slug} ({ids.text(ids.APP, app.id)})" for app in found
        )
        raise NotFoundError(f"{given!r} is an app of several organizations, name one: {where}")
    if not found:
        known = [
            f"{app.organization_name}/{app.slug}" if slash else app.slug
            for app in await of_organization(db, organization_id)
        ]
        raise not_found("app", given, known, "`wepeople-ingest app list` shows those there are")
    return found[0]
