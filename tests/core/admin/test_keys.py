"""API keys, as operators create, find and revoke them."""

from __future__ import annotations

import pytest
from msgspec import structs

from core import ids
from core.access.api_keys import digest, generate_key
from core.access.key_secrets import key_secrets
from core.admin import keys
from core.admin.cell_sessions import CellSessions, at_home
from core.admin.errors import InvalidValueError, NotFoundError
from core.timestamps import MAX_US, from_datetime, to_datetime
from tests.support.tenant import make_tenant, now_us

pytestmark = pytest.mark.anyio


async def test_of_a_key_its_digest_and_last_characters_are_stored(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    async with await tenant.connect() as db:
        secret = await key_secrets(db, None)
        record, key = await keys.create(at_home(db), tenant.app, secret, now_us())
        assert record.hint == key[-4:]
        rows = await tenant.rows("SELECT * FROM api_keys WHERE id = %s", record.id)
        assert rows[0]["digest"] == digest(key, secret.in_force.value)
        assert key not in repr(rows)


async def test_a_key_is_found_by_its_id_or_by_itself(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    async with await tenant.connect() as db:
        secret = await key_secrets(db, None)
        async with CellSessions(db, database_url, 10) as cells:
            for given in (tenant.key, ids.text(ids.KEY, tenant.api_key.id)):
                cell, found = await keys.find(cells, given, secret)
                assert (cell.is_home, found) == (True, tenant.api_key)
        assert await keys.of_app(db, tenant.app) == [tenant.api_key]
        assert await keys.of_app(db) == [tenant.api_key]


async def test_a_key_tells_when_it_was_last_used(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    unused = await tenant.another_key()
    now = to_datetime(now_us())
    await tenant.rows(
        "INSERT INTO key_uses VALUES (%s, %s, %s)",
        *(tenant.organization.id, tenant.api_key.id, now),
    )
    used = structs.replace(tenant.api_key, last_used_at=now)
    async with await tenant.connect() as db:
        secret = await key_secrets(db, None)
        assert await keys.of_app(db, tenant.app) == [used, unused.api_key]
        async with CellSessions(db, database_url, 10) as cells:
            assert (await keys.find(cells, tenant.key, secret))[1] == used
        assert (await keys.revoke(at_home(db), used, now_us())).last_used_at == now


async def test_the_message_about_an_unknown_key_does_not_repeat_it(database_url: str) -> None:
    tenant, unknown = await make_tenant(database_url), generate_key()
    async with await tenant.connect() as db, CellSessions(db, database_url, 10) as cells:
        with pytest.raises(NotFoundError) as caught:
            await keys.find(cells, unknown, await key_secrets(db, None))
        assert unknown not in str(caught.value)


async def test_the_first_revocation_stays(database_url: str) -> None:
    tenant, now = await make_tenant(database_url), now_us()
    async with await tenant.connect() as db:
        revoked = await keys.revoke(at_home(db), tenant.api_key, now)
        again = await keys.revoke(at_home(db), tenant.api_key, now + 1_000_000)
    assert revoked.revoked_at is not None
    assert from_datetime(revoked.revoked_at) == now
    assert again == revoked


async def test_a_key_is_active_until_it_expires_or_is_revoked(database_url: str) -> None:
    now = now_us()
    tenant = await make_tenant(database_url, expires_us=now + 1_000_000)
    assert tenant.api_key.state(now) == "active"
    assert tenant.api_key.state(now + 1_000_000) == "expired"
    async with await tenant.connect() as db:
        revoked = await keys.revoke(at_home(db), tenant.api_key, now)
    assert revoked.state(now) == "revoked"


async def test_an_expiry_is_in_the_future_and_can_be_stored(database_url: str) -> None:
    tenant, now = await make_tenant(database_url), now_us()
    async with await tenant.connect() as db:
        secret = await key_secrets(db, None)
        for expires_us, problem in ((now, "in the future"), (MAX_US + 1, "year 10000")):
            with pytest.raises(InvalidValueError, match=problem):
                await keys.create(at_home(db), tenant.app, secret, now, expires_us=expires_us)
