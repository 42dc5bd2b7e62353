"""API keys: their form and their digests (contract section 1).

A key has 128 random bits. So a keyed digest stores it safely, and costs microseconds where a
password hash would cost a fifth of a second. Keys are looked up by their digest: no key is ever
stored or compared.
"""

from __future__ import annotations

import hmac
import secrets
from typing import Final

KEY_PREFIX: Final = "wp_live_"
KEY_RANDOM_BYTES: Final = 16
KEY_PATTERN: Final = rf"{KEY_PREFIX}[0-9a-f]{{{2 * KEY_RANDOM_BYTES}}}"


def generate_key() -> str:
    """A new API key. It is shown once and never stored."""
    return KEY_PREFIX + secrets.token_hex(KEY_RANDOM_BYTES)


def digest(key: str, secret: bytes) -> bytes:
    """The part of a key that is stored: its HMAC-SHA256 under the deployment's secret."""
    return hmac.digest(secret, key.encode(), "sha256")
