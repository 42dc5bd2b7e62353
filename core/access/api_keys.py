"""API keys: their form, their digests and the secret behind these (contract section 1).

A key has 128 random bits, so a keyed digest is enough to store it safely and, unlike a password
hash, costs microseconds to check. The digest is what is looked up: no secret is ever compared.
"""

from __future__ import annotations

import hmac
import secrets
from typing import Final

from core.postgres.errors import DatabaseUnusableError
from core.postgres.sessions import Connection

KEY_PREFIX: Final = "wp_live_"
KEY_RANDOM_BYTES: Final = 16


def generate_key() -> str:
    """A new API key. It is shown once and never stored."""
    return KEY_PREFIX + secrets.token_hex(KEY_RANDOM_BYTES)


def digest(key: str, secret: bytes) -> bytes:
    """The stored form of a key: HMAC-SHA256 under the deployment's secret, 32 bytes."""
    return hmac.digest(secret, key.encode(), "sha256")


_DEPLOYMENT: Final = "SELECT key_secret, key_secret_check FROM deployment"
_ADOPT: Final = """
UPDATE deployment SET key_secret_check = %s
WHERE key_secret_check IS NULL AND NOT EXISTS (SELECT FROM api_keys)
"""


async def deployment_secret(db: Connection, configured: str | None) -> bytes:
    """The secret that keys the digests: the operator's own, or the one made with the schema.

    Raises :class:`DatabaseUnusableError` if it is not the one the existing keys were made with:
    every key would silently be unknown.
    """
    row = await (await db.execute(_DEPLOYMENT)).fetchone()
    assert row is not None
    internal, check = row
    if configured is None:
        if check is not None:
            raise DatabaseUnusableError(
                "the keys in this database were made with WEPEOPLE_KEY_SECRET, which is not set"
            )
        return bytes(internal)
    secret = configured.encode()
    expected = hmac.digest(secret, b"wepeople-ingest key secret", "sha256")
    if check is None:
        if (await db.execute(_ADOPT, (expected,))).rowcount:
            return secret
        # There are keys; or another process that starts at this moment was faster.
        row = await (await db.execute(_DEPLOYMENT)).fetchone()
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
