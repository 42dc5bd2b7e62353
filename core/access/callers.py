"""Callers as the databases have them: where a key lives, and then its rights there."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final
from uuid import UUID

from msgspec import Struct

from core.access.key_secrets import Digests
from core.models import Caller
from core.postgres.directory import HOME, find_keys
from core.postgres.sessions import Connection
from core.timestamps import from_datetime


class KeyOfOrganization(Struct, frozen=True, gc=False, cache_hash=True):
    """A key as its cell finds it: by the organization and by any of the digests it may have."""

    organization_id: UUID
    digests: Digests


_FIND: Final = """
SELECT k.organization_id, k.digest, k.id, k.hint, k.app_id, a.slug, a.name, o.developer_api,
    a.allowed_event_types, k.requests_per_second, o.requests_per_second,
    k.revoked_at IS NOT NULL, k.expires_at
FROM unnest(%s::uuid[], %s::bytea[]) AS wanted (organization_id, digest)
JOIN api_keys k USING (organization_id, digest)
JOIN apps a ON a.organization_id = k.organization_id AND a.id = k.app_id
JOIN organizations o ON o.id = k.organization_id
"""


async def find_callers(
    db: Connection, cell: str, wanted: Collection[KeyOfOrganization]
) -> Mapping[KeyOfOrganization, Caller]:
    """The callers behind keys of a cell, which ``db`` is a session of, usable or not.

    A key that the cell does not have is left out.
    """
    found: dict[KeyOfOrganization, Caller] = {}
    of = {(key.organization_id, digest): key for key in wanted for digest in key.digests}
    values = [organization_id for organization_id, _ in of], [digest for _, digest in of]
    for row in await (await db.execute(_FIND, values)).fetchall():
        organization_id, digest, key_id, hint, app_id, slug, name, plan, allowed, *rest = row
        key_rate, organization_rate, revoked, expires_at = rest
        found[of[organization_id, digest]] = Caller(
            key_id,
            hint,
            organization_id,
            app_id,
            slug,
            name,
            plan,
            frozenset(allowed),
            key_rate,
            organization_rate,
            revoked,
            None if expires_at is None else from_datetime(expires_at),
            cell,
        )
    return found


async def find_caller_at_home(db: Connection, digests: Digests) -> Caller | None:
    """The caller behind a key of the home cell; None if it has no such key."""
    place = next(iter((await find_keys(db, digests)).values()), None)
    if place is None or place.cell != HOME:
        return None
    key = KeyOfOrganization(place.organization_id, digests)
    return (await find_callers(db, HOME, [key])).get(key)
