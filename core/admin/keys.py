"""API keys as operators make, list and revoke them (their check: core/access/authentication.py)."""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from msgspec import Struct, structs
from psycopg.errors import UniqueViolation

from core import ids, limits
from core.access.api_keys import KEY_PREFIX, digest, generate_key
from core.access.key_secrets import KeySecrets, secret_in_force
from core.admin import checks
from core.admin.apps import App
from core.admin.cell_sessions import CellSession, CellSessions
from core.admin.errors import AlreadyExistsError, InvalidValueError, NotFoundError
from core.postgres import directory
from core.postgres.audit import Change
from core.postgres.sessions import Connection
from core.timestamps import MAX_US, format_us, from_datetime, to_datetime

HINT_CHARACTERS: Final = 4

State = Literal["active", "expired", "revoked"]


class ApiKey(Struct, frozen=True):
    """A key as operators see it; the key itself is shown once, at its creation.

    ``hint``: its last characters, to tell keys apart. ``last_used_at``: the last request that was
    admitted with it, at most a minute and some seconds too early; None if there was none.
    """

    id: UUID
    organization_id: UUID
    organization_name: str
    app_id: UUID
    app_slug: str
    hint: str
    requests_per_second: int
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None = None

    def state(self, now_us: int) -> State:
        """Whether the key can be used now, and if not, why."""
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is not None and from_datetime(self.expires_at) <= now_us:
            return "expired"
        return "active"


_INSERT: Final = """
INSERT INTO api_keys (
    organization_id, id, app_id, digest, hint, requests_per_second, created_at, expires_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
"""


async def create(
    cell: CellSession,
    app: App,
    secrets: KeySecrets,
    now_us: int,
    *,
    expires_us: int | None = None,
    requests_per_second: int = limits.DEFAULT_KEY_REQUESTS_PER_SECOND,
    key_id: UUID | None = None,
) -> tuple[ApiKey, str]:
    """Create a key; returns its record and the key itself, which is not stored.

    One that was made in the cell alone, before a crash, is nobody's: it was never shown.
    Its digest is made with the secret that is in force.
    ``expires_us``: microseconds since the epoch; None for never. InvalidValueError if that has
    passed. ``key_id``: a new one, by which what is sent twice makes one key; AlreadyExistsError the
    second time.
    """
    _check_expiry(expires_us, now_us)
    key = generate_key()
    made = ApiKey(
        ids.new(now_us) if key_id is None else key_id,
        app.organization_id,
        app.organization_name,
        app.id,
        app.slug,
        key[-HINT_CHARACTERS:],
        checks.requests_per_second(requests_per_second),
        to_datetime(now_us),
        None if expires_us is None else to_datetime(expires_us),
        None,
    )
    secret = await secret_in_force(cell.home, secrets)
    key_digest = digest(key, secret.value)
    row = (
        made.organization_id,
        made.id,
        made.app_id,
        key_digest,
        made.hint,
        made.requests_per_second,
        made.created_at,
        made.expires_at,
    )
    change = Change("key.create", made.organization_id, ids.text(ids.KEY, made.id))
    change.after = audited(made)
    entry = (key_digest, made.organization_id, cell.record.name, secret.check)
    try:
        async with cell.recording(change):
            await cell.db.execute(_INSERT, row)
            if cell.is_home:  # whose trigger does not know the secret
                await directory.put_key(cell.home, *entry)
    except UniqueViolation as error:  # of the id: the key is new
        raise AlreadyExistsError(
            "this was sent before and has made its key, which was shown that once: if nobody has "
            "it, revoke it and make another"
        ) from error
    if not cell.is_home:
        await directory.put_key(cell.home, *entry)
    return made, key


def _check_expiry(expires_us: int | None, now_us: int) -> None:
    if expires_us is not None and expires_us <= now_us:
        raise InvalidValueError("the expiry must be in the future")
    if expires_us is not None and expires_us > MAX_US:
        raise InvalidValueError("the expiry must be before the year 10000")


_LIST: Final = """
SELECT api_keys.id, organizations.id, organizations.name, apps.id, slug, hint,
    api_keys.requests_per_second, api_keys.created_at, expires_at, revoked_at, used_at
FROM api_keys
JOIN apps ON apps.organization_id = api_keys.organization_id AND apps.id = app_id
JOIN organizations ON organizations.id = api_keys.organization_id
LEFT JOIN key_uses ON key_uses.organization_id = api_keys.organization_id
    AND key_uses.key_id = api_keys.id
WHERE %(app)s::uuid IS NULL
    OR api_keys.organization_id = %(organization)s AND api_keys.app_id = %(app)s
ORDER BY organizations.name, slug, api_keys.id
"""


async def of_app(db: Connection, app: App | None = None) -> list[ApiKey]:
    """The keys of an app, or of all of them, oldest first within an app."""
    values = {"app": app and app.id, "organization": app and app.organization_id}
    return [ApiKey(*row) for row in await (await db.execute(_LIST, values)).fetchall()]


_PAGE: Final = """
SELECT api_keys.id, organizations.id, organizations.name, apps.id, slug, hint,
    api_keys.requests_per_second, api_keys.created_at, expires_at, revoked_at, used_at
FROM api_keys
JOIN apps ON apps.organization_id = api_keys.organization_id AND apps.id = app_id
JOIN organizations ON organizations.id = api_keys.organization_id
LEFT JOIN key_uses ON key_uses.organization_id = api_keys.organization_id
    AND key_uses.key_id = api_keys.id
WHERE api_keys.organization_id = %(organization)s
    AND api_keys.id >= %(first)s AND api_keys.id <= %(last)s
    AND (%(app)s::uuid IS NULL OR api_keys.app_id = %(app)s)
ORDER BY api_keys.id LIMIT %(limit)s
"""


async def page(
    db: Connection,
    organization_id: UUID,
    app_id: UUID | None,
    limit: int,
    after: UUID | None = None,
) -> list[ApiKey]:
    """The keys of an organization, or of one app of it, after that one, oldest first."""
    first = ids.NIL if after is None else ids.next_to(after)
    return await _range(db, organization_id, app_id, first, ids.MAX, limit)


async def get(db: Connection, organization_id: UUID, key_id: UUID) -> ApiKey:
    """The key of an organization with that id; NotFoundError if there is none."""
    for key in await _range(db, organization_id, None, key_id, key_id, 1):
        return key
    raise NotFoundError(f"there is no key {ids.text(ids.KEY, key_id)} in this organization")


async def _range(
    db: Connection, organization_id: UUID, app_id: UUID | None, first: UUID, last: UUID, limit: int
) -> list[ApiKey]:
    values = {
        "organization": organization_id,
        "app": app_id,
        "first": first,
        "last": last,
        "limit": limit,
    }
    return [ApiKey(*row) for row in await (await db.execute(_PAGE, values)).fetchall()]


async def list_everywhere(cells: CellSessions) -> list[ApiKey]:
    """The keys of all cells, by organization and app, oldest first."""
    found = await cells.everywhere(of_app)
    keys = [key for _, key in found]
    # One cell's are in the database's order, which may know more of a language than Python.
    several = len({cell for cell, _ in found}) > 1
    return sorted(keys, key=lambda k: (k.organization_name, k.app_slug, k.id)) if several else keys


_FIND: Final = """
SELECT api_keys.id, organizations.id, organizations.name, apps.id, slug, hint,
    api_keys.requests_per_second, api_keys.created_at, expires_at, revoked_at, used_at
FROM api_keys
JOIN apps ON apps.organization_id = api_keys.organization_id AND apps.id = app_id
JOIN organizations ON organizations.id = api_keys.organization_id
LEFT JOIN key_uses ON key_uses.organization_id = api_keys.organization_id
    AND key_uses.key_id = api_keys.id
WHERE api_keys.id = %s OR digest = ANY (%s)
"""


async def find(cells: CellSessions, given: str, secrets: KeySecrets) -> tuple[CellSession, ApiKey]:
    """The record of the key with that id, or of that key itself, if somebody has found one.

    It comes with its cell. NotFoundError if there is none. Its message never repeats a key.
    """
    digests = secrets.digests(given) if given.startswith(KEY_PREFIX) else ()
    key_id = ids.parse(ids.KEY, given)

    async def read(db: Connection) -> list[ApiKey]:
        rows = await (await db.execute(_FIND, (key_id, list(digests)))).fetchall()
        return [ApiKey(*row) for row in rows]

    for place in (await directory.find_keys(cells.home, digests)).values():
        cell = await cells.named(place.cell)
        for key in await read(cell.db):
            return cell, key
    found = await cells.everywhere(read)
    if not found:
        cells.check_all_answered()
        shown = f"{KEY_PREFIX}…" if given.startswith(KEY_PREFIX) else repr(given)
        raise NotFoundError(
            f"there is no key {shown}: `wepeople-ingest key list` shows the ids of those there are"
        )
    record, key = found[0]
    return await cells.named(record.name), key


# The first revocation stays: it tells since when the key has been refused.
_REVOKE: Final = """
UPDATE api_keys SET revoked_at = COALESCE(revoked_at, %s)
WHERE organization_id = %s AND id = %s
RETURNING revoked_at
"""


async def revoke(cell: CellSession, key: ApiKey, now_us: int) -> ApiKey:
    """Revoke a key, on every server within a second. It may be revoked already."""
    change = Change("key.revoke", key.organization_id, ids.text(ids.KEY, key.id))
    async with cell.changing(change):
        before = await locked(cell.db, key)
        values = (to_datetime(now_us), key.organization_id, key.id)
        row = await (await cell.db.execute(_REVOKE, values)).fetchone()
        assert row is not None
        revoked = structs.replace(before, revoked_at=row[0])
        change.before, change.after = audited(before), audited(revoked)
    return revoked


_ENDS: Final = """
SELECT expires_at, revoked_at FROM api_keys WHERE organization_id = %s AND id = %s FOR UPDATE
"""


async def locked(db: Connection, key: ApiKey) -> ApiKey:
    """The key as it is, until the transaction ends; NotFoundError if it is gone."""
    row = await (await db.execute(_ENDS, (key.organization_id, key.id))).fetchone()
    if row is None:
        raise NotFoundError(f"there is no key {ids.text(ids.KEY, key.id)}")
    return structs.replace(key, expires_at=row[0], revoked_at=row[1])


def audited(key: ApiKey) -> dict[str, object]:
    """A key as the audit log has it, which is without the key itself and its digest."""
    return {
        "app": key.app_slug,
        "endsIn": key.hint,
        "requestsPerSecond": key.requests_per_second,
        "expiresAt": key.expires_at and format_us(from_datetime(key.expires_at)),
        "revokedAt": key.revoked_at and format_us(from_datetime(key.revoked_at)),
    }
