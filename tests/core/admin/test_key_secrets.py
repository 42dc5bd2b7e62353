"""The change of the secret of digests, as operators make it."""

from __future__ import annotations

import re

import pytest

from core.access.key_secrets import key_secrets
from core.admin import key_secrets as secrets_of_keys
from core.admin import keys
from core.admin.cell_sessions import CellSessions
from core.admin.errors import AdministrationError
from tests.support.database import connect
from tests.support.tenant import make_tenant, now_us

pytestmark = pytest.mark.anyio

FIRST = "the operator's first secret"
SECOND = "the operator's second secret"


async def test_a_change_is_refused_while_keys_need_an_even_older_secret(
    database_url: str,
) -> None:
    tenant = await make_tenant(database_url)
    async with await connect(database_url) as db, CellSessions(db, database_url, 10) as cells:
        assert await secrets_of_keys.rotate(cells, await key_secrets(db, FIRST), now_us())
        assert not await secrets_of_keys.rotate(cells, await key_secrets(db, FIRST), now_us())
        first = await key_secrets(db, FIRST)
        async with tenant.in_cell() as cell:
            new, _ = await keys.create(cell, tenant.app, first, now_us())
        old = await secrets_of_keys.keys_with_old_digests(cells, now_us())
        assert old == {tenant.api_key.id}
        second = await key_secrets(db, SECOND, FIRST)
        with pytest.raises(AdministrationError, match="even older secret: 1"):
            await secrets_of_keys.rotate(cells, second, now_us())
        await tenant.revoke()
        assert await secrets_of_keys.rotate(cells, second, now_us())
        assert await secrets_of_keys.keys_with_old_digests(cells, now_us()) == {new.id}
        # Back: the key that was not renewed is of the secret that comes into force again.
        assert await secrets_of_keys.rotate(cells, await key_secrets(db, FIRST, SECOND), now_us())
        assert await secrets_of_keys.keys_with_old_digests(cells, now_us()) == set()


async def test_it_is_in_the_audit_log_without_a_secret(database_url: str) -> None:
    await (await make_tenant(database_url)).revoke()
    async with await connect(database_url) as db, CellSessions(db, database_url, 10) as cells:
        secrets = await key_secrets(db, FIRST)
        assert await secrets_of_keys.rotate(cells, secrets, now_us())
        with pytest.raises(AdministrationError, match="at this moment"):  # as another one has seen
            await secrets_of_keys.rotate(cells, secrets, now_us())
        cursor = await db.execute("SELECT before, after FROM audit WHERE action = 'secret.rotate'")
        [(before, after)] = await cursor.fetchall()
    assert before == {"check": "database"}
    assert re.fullmatch("[0-9a-f]{8}", after["check"])
