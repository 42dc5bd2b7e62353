"""API keys: their form, their digests, and the deployment's secret."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from core.access.api_keys import deployment_secret, digest, generate_key
from core.postgres.errors import DatabaseUnusableError
from tests.support.tenant import Tenant, make_tenant

SECRET = "the operator's own secret"


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


@pytest.mark.anyio
async def test_without_a_configured_secret_the_database_s_own_is_used(database_url: str) -> None:
    async with await (await make_tenant(database_url)).connect() as db:
        assert await deployment_secret(db, None) == await deployment_secret(db, None)
        with pytest.raises(DatabaseUnusableError, match="without WEPEOPLE_KEY_SECRET"):
            await deployment_secret(db, SECRET)


@pytest.mark.anyio
async def test_the_first_configured_secret_is_adopted_and_then_required(
    database_url: str,
) -> None:
    tenant = await make_tenant(database_url)
    await _delete_keys(tenant)
    async with await tenant.connect() as db:
        for _ in range(2):
            assert await deployment_secret(db, SECRET) == SECRET.encode()
        with pytest.raises(DatabaseUnusableError, match="is not the secret"):
            await deployment_secret(db, "another")
        with pytest.raises(DatabaseUnusableError, match="is not set"):
            await deployment_secret(db, None)


async def _delete_keys(tenant: Tenant) -> None:
    await tenant.rows("DELETE FROM api_keys")
