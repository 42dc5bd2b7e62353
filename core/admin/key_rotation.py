"""The rotation of an API key: another one takes its place while it goes on for a while."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from msgspec import structs

from core import ids
from core.access.key_secrets import KeySecrets
from core.admin import apps, keys
from core.admin.cell_sessions import CellSession
from core.admin.errors import AdministrationError, InvalidValueError
from core.admin.keys import ApiKey
from core.postgres.audit import Change
from core.timestamps import MAX_US, to_datetime

OLD_KEY_SECONDS: Final = 86_400  # that a key goes on after it was replaced, if not told otherwise

_SHORTEN: Final = """
UPDATE api_keys SET expires_at = LEAST(expires_at, %s)
WHERE organization_id = %s AND id = %s
RETURNING expires_at
"""


async def rotate(
    cell: CellSession,
    key: ApiKey,
    secrets: KeySecrets,
    now_us: int,
    *,
    old_ends_us: int,
    expires_us: int | None = None,
    key_id: UUID | None = None,
) -> tuple[ApiKey, ApiKey, str]:
    """Make a key of the same app and rate, and let the old one expire, if it does not before.

    Returns the record of the old key, that of the new one and the new key itself. The old one is
    changed last: until the new one is known to every server, it works. AdministrationError if it
    does not work any more. The rest is as of :func:`core.admin.keys.create`.
    """
    if old_ends_us > MAX_US:
        raise InvalidValueError("the old key must end before the year 10000")
    _check_active(key, now_us)
    app = await apps.find(cell.db, ids.text(ids.APP, key.app_id), key.organization_id)
    rate = key.requests_per_second
    new, text = await keys.create(
        cell,
        app,
        secrets,
        now_us,
        expires_us=expires_us,
        requests_per_second=rate,
        key_id=key_id,
    )
    change = Change("key.rotate", key.organization_id, ids.text(ids.KEY, key.id))
    async with cell.changing(change):
        before = await keys.locked(cell.db, key)
        _check_active(before, now_us)
        values = (to_datetime(old_ends_us), key.organization_id, key.id)
        row = await (await cell.db.execute(_SHORTEN, values)).fetchone()
        assert row is not None
        old = structs.replace(before, expires_at=row[0])
        change.before = keys.audited(before)
        change.after = {**keys.audited(old), "replacedBy": ids.text(ids.KEY, new.id)}
    return old, new, text


def _check_active(key: ApiKey, now_us: int) -> None:
    state = key.state(now_us)
    if state != "active":
        raise AdministrationError(
            f"the key {ids.text(ids.KEY, key.id)} is {state}, so there is nothing to replace: "
            "make a key with `wepeople-ingest key create`"
        )
