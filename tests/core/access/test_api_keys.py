"""API keys: their form and their digests."""

from __future__ import annotations

import hashlib
import hmac

from core.access.api_keys import digest, generate_key


def test_keys_have_the_documented_form_and_differ() -> None:
    keys = [generate_key() for _ in range(2)]
    assert keys[0] != keys[1]
    for key in keys:
        assert key.startswith("wp_live_")
        assert len(key) == len("wp_live_") + 32
        assert set(key.removeprefix("wp_live_")) <= set("0123456789abcdef")


def test_a_digest_is_the_hmac_of_the_key() -> None:
    # https://www.rfc-editor.org/rfc/rfc4231#section-4.3: a published example
    published = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert digest("what do ya want for nothing?", b"Jefe").hex() == published
    assert digest("wp_live_", b"s") == hmac.new(b"s", b"wp_live_", hashlib.sha256).digest()
    assert digest("wp_live_", b"s") != digest("wp_live_", b"t")
