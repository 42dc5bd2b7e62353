"""The secrets that key the digests of a deployment's keys, and how one follows another.

One secret is in force: digests are made with it, and the database holds its check. A service that
is started with another one, and knows the one in force as the one before, accepts the keys of both.
Once every service does, an operator puts the new one in force (core/admin/key_secrets.py), and old
digests are renewed as their keys are used (core/access/key_renewal.py). The secret that is kept in
the database is known to every service.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final, NamedTuple

from core.access.api_keys import digest
from core.postgres.errors import DatabaseUnusableError
from core.postgres.sessions import Connection

# The digests of one key under every accepted secret; the first is under the wanted one.
Digests = tuple[bytes, ...]


class KeySecret(NamedTuple):
    """A secret. ``check`` recognizes it without holding it; None of the one in the database."""

    value: bytes
    check: bytes | None


class KeySecrets(NamedTuple):
    """``in_force``: as of when they were read. ``accepted``: all under which keys are known.

    The first of these is the wanted one, which comes into force if it is not yet.
    """

    in_force: KeySecret
    accepted: tuple[KeySecret, ...]

    @property
    def wanted(self) -> KeySecret:
        """The configured secret, or that of the database if none is configured."""
        return self.accepted[0]

    def digests(self, key: str) -> Digests:
        """The digests that a key may have."""
        return tuple([digest(key, secret.value) for secret in self.accepted])


_READ: Final = "SELECT key_secret, key_secret_check, key_secret_previous_check FROM deployment"
# A configured secret is adopted at once only while no key and no operator's token depends on
# another one.
_ADOPT: Final = """
UPDATE deployment SET key_secret_check = %s
WHERE key_secret_check IS NULL AND NOT EXISTS (SELECT FROM directory_keys)
    AND NOT EXISTS (SELECT FROM operators WHERE revoked_at IS NULL)
"""
_HAS_INTERNAL: Final = """
SELECT EXISTS (SELECT FROM directory_keys WHERE secret_check IS NULL)
    OR EXISTS (SELECT FROM operators WHERE secret_check IS NULL AND revoked_at IS NULL)
"""
_IN_FORCE: Final = "SELECT key_secret_check FROM deployment"


async def key_secrets(
    db: Connection, configured: str | None = None, previous: str | None = None
) -> KeySecrets:
    """The secrets by the settings and the home database, which ``db`` is a session of.

    Without a configured one it is the one made with the schema. The first that is configured is in
    force at once if there are no keys and no operators yet. Raises :class:`DatabaseUnusableError`
    if the one in force is neither, and if ``previous`` has never been in force: keys would be
    unknown.
    """
    internal, in_force, before = await _read(db)
    if configured is None:
        if in_force is not None:
            raise DatabaseUnusableError(
                "the keys in this database were made with WEPEOPLE_KEY_SECRET, which is not set"
            )
        return KeySecrets(internal, (internal,))
    wanted = _secret(configured)
    if in_force is None and (await db.execute(_ADOPT, (wanted.check,))).rowcount:
        in_force = wanted.check
    elif in_force is None:  # perhaps another process has adopted one at this moment
        internal, in_force, before = await _read(db)
    old = None if previous is None else _secret(previous)
    if not _is_of(in_force, wanted):
        old = internal if in_force is None and old is None else old
        if old is None:
            raise DatabaseUnusableError(
                "WEPEOPLE_KEY_SECRET is not the secret that the keys in this database were made "
                "with: to change it, set WEPEOPLE_KEY_SECRET_PREVIOUS to that one"
            )
        if not _is_of(in_force, old):
            raise DatabaseUnusableError(
                "WEPEOPLE_KEY_SECRET_PREVIOUS is not the secret that the keys in this database "
                "were made with"
            )
        return KeySecrets(old, (wanted, old))
    if old is not None and not _is_of(before, old):
        raise DatabaseUnusableError(
            "WEPEOPLE_KEY_SECRET_PREVIOUS is not the secret that was in force before"
        )
    accepted = (wanted,) if old is None else (wanted, old)
    row = await (await db.execute(_HAS_INTERNAL)).fetchone()
    assert row is not None
    return KeySecrets(wanted, (*accepted, internal) if row[0] else accepted)


async def secret_in_force(home: Connection, secrets: KeySecrets) -> KeySecret:
    """The one of the secrets that makes the digests of new keys now, on a server of long ago, too.

    Raises :class:`DatabaseUnusableError` if it is none of them.
    """
    row = await (await home.execute(_IN_FORCE)).fetchone()
    assert row is not None
    for secret in secrets.accepted:
        if _is_of(row[0], secret):
            return secret
    raise DatabaseUnusableError(
        "the secret of the keys was changed, and this service was started without the new one"
    )


async def _read(db: Connection) -> tuple[KeySecret, bytes | None, bytes | None]:
    """The secret in the database, and the checks of that in force and of the one before it."""
    row = await (await db.execute(_READ)).fetchone()
    assert row is not None
    return KeySecret(bytes(row[0]), None), row[1], row[2]


def _secret(given: str) -> KeySecret:
    value = given.encode()
    return KeySecret(value, hmac.digest(value, b"wepeople-ingest key secret", hashlib.sha256))


def _is_of(check: bytes | None, secret: KeySecret) -> bool:
    if check is None or secret.check is None:
        return check is secret.check
    return hmac.compare_digest(check, secret.check)
