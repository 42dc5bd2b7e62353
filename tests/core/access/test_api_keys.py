"""API keys: their form, and the digest that is stored of them."""

from __future__ import annotations

import hashlib
import hmac
import re

from core.access.api_keys import digest, generate_key


def test_a_key_has_the_promised_form_and_is_a_new_one_each_time() -> None:
    keys = {generate_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(re.fullmatch("wp_live_[0-9a-f]{32}", key) for key in keys)


def test_a_digest_is_keyed_by_the_secret() -> None:
    key = generate_key()
    assert digest(key, b"secret") == hmac.new(b"secret", key.encode(), hashlib.sha256).digest()
    assert digest(key, b"secret") != digest(key, b"another secret")
