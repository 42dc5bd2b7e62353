"""API keys: their form, their digests, and the secret that keys the digests (contract section 1).

A key has 128 random bits. So a keyed digest stores it safely, and costs microseconds where a
password hash would cost a fifth of a second. Keys are looked up by their digest: no key is ever
stored or compared.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Final

from core.postgres.errors import DatabaseUnusableError
from core.postgres.sessions import Connection

KEY_PREFIX: Final = "wp_live_"
KEY_RANDOM_BYTES: Final = 16
KEY_PATTERN: Final = rf"{KEY_PREFIX}[0-9a-f]{{{2 * KEY_RANDOM_BYTES}}}"


def generate_key() -> str:
    """A new API key. It is shown once and never stored."""
    return KEY_PREFIX + secrets.token_hex(KEY_RANDOM_BYTES)


def digest(key: str, secret: bytes) -> bytes:
    """The part of a key that is stored: its HMAC-SHA256 under the deployment's secret, 32 bytes."""
    return hmac.digest(secret, key.encode(), "sha256")


_READ_DEPLOYMENT: Final = "SELECT key_secret, key_secret_check FROM deployment"
# An operator's secret is adopted only while no key depends on another one.
_ADOPT_CHECK: Final = """
UPDATE deployment SET key_secret_check = %s
WHERE key_secret_check IS NULL AND NOT EXISTS (SELECT FROM directory_keys)
"""


async def deployment_secret(db: Connection, configured: str | None) -> bytes:
    """The secret that keys the digests: ``configured``, or else the one made with the schema.

    The first secret that an operator configures is adopted if there are no keys yet. Raises
    :class:`DatabaseUnusableError` if the existing keys were made with another secret, under which
    every one of them would be unknown.
    """
    row = await (await db.execute(_READ_DEPLOYMENT)).fetchone()
    assert row is not None
    internal, check = row
    if configured is None:
        if check is not None:
            raise DatabaseUnusableError(
                "the keys in this database were made with WEPEOPLE_KEY_SECRET, which is not set"
            )
        return bytes(internal)
    secret = configured.encode()
    expected = hmac.digest(secret, b"wepeople-ingest key secret", hashlib.sha256)
    if check is None:
        if (await db.execute(_ADOPT_CHECK, (expected,))).rowcount:
            return secret
        # There are keys already, or another process has adopted a secret at this moment.
        row = await (await db.execute(_READ_DEPLOYMENT)).fetchone()
        assert row is not None
        check = row[1]
        if check is None:
            raise DatabaseUnusableError(
                "the keys in this database were made without WEPEOPLE_KEY_SECRET: unset it, or "
                "revoke and delete the old keys first"
            )
    if not hmac.compare_digest(bytes(check), expected):
        raise DatabaseUnusableError(
            "WEPEOPLE_KEY_SECRET is not the secret that the keys in this database were made with"
        )
    return secret
