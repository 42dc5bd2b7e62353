"""The secrets of digests: which one is in force, and which are accepted."""

from __future__ import annotations

import pytest

from core.access.api_keys import digest
from core.access.key_secrets import KeySecrets, key_secrets
from core.admin.cell_sessions import CellSessions
from core.admin.key_secrets import rotate
from core.postgres.errors import DatabaseUnusableError
from core.postgres.sessions import Connection
from tests.support.database import connect
from tests.support.tenant import make_tenant, now_us

pytestmark = pytest.mark.anyio

FIRST = "the operator's first secret"
SECOND = "the operator's second secret"


async def put_in_force(url: str, db: Connection, secrets: KeySecrets) -> None:
    async with CellSessions(db, url, 10) as cells:
        assert await rotate(cells, secrets, now_us())


async def test_without_a_configured_secret_the_database_s_own_is_used(database_url: str) -> None:
    async with await connect(database_url) as db:
        secrets = await key_secrets(db)
        assert secrets == await key_secrets(db)
        assert (secrets.wanted, secrets.accepted) == (secrets.in_force, (secrets.in_force,))
        assert secrets.digests("wp_live_") == (digest("wp_live_", secrets.wanted.value),)


async def test_the_first_configured_secret_is_in_force_and_then_required(
    database_url: str,
) -> None:
    async with await connect(database_url) as db:
        for _ in range(2):
            secrets = await key_secrets(db, FIRST)
            assert [one.value for one in secrets.accepted] == [FIRST.encode()]
            assert secrets.in_force == secrets.wanted
        with pytest.raises(DatabaseUnusableError, match="set WEPEOPLE_KEY_SECRET_PREVIOUS"):
            await key_secrets(db, SECOND)
        with pytest.raises(DatabaseUnusableError, match="PREVIOUS is not the secret that the keys"):
            await key_secrets(db, SECOND, "something else that is long")
        with pytest.raises(DatabaseUnusableError, match="PREVIOUS is not the secret that was"):
            await key_secrets(db, FIRST, SECOND)
        with pytest.raises(DatabaseUnusableError, match="is not set"):
            await key_secrets(db)


async def test_a_secret_beside_keys_waits_until_it_is_put_in_force(database_url: str) -> None:
    await make_tenant(database_url)
    async with await connect(database_url) as db:
        internal = (await key_secrets(db)).wanted
        waiting = await key_secrets(db, FIRST)
        assert waiting.in_force == internal
        assert waiting.accepted == (waiting.wanted, internal)
        with pytest.raises(DatabaseUnusableError, match="PREVIOUS is not the secret"):
            await key_secrets(db, FIRST, SECOND)
        assert await key_secrets(db) == KeySecrets(internal, (internal,))  # of a service of before
        await put_in_force(database_url, db, waiting)
        first = waiting.wanted
        assert await key_secrets(db, FIRST) == KeySecrets(first, (first, internal))
        with pytest.raises(DatabaseUnusableError, match="is not set"):
            await key_secrets(db)
        await db.execute("DELETE FROM directory_keys")
        assert await key_secrets(db, FIRST) == KeySecrets(first, (first,))


async def test_one_follows_another_and_can_be_followed_back(database_url: str) -> None:
    async with await connect(database_url) as db:
        first = (await key_secrets(db, FIRST)).wanted
        waiting = await key_secrets(db, SECOND, FIRST)
        assert waiting.accepted == (waiting.wanted, first)
        assert waiting.in_force == first
        await put_in_force(database_url, db, waiting)
        second = waiting.wanted
        assert await key_secrets(db, SECOND, FIRST) == KeySecrets(second, (second, first))
        assert await key_secrets(db, SECOND) == KeySecrets(second, (second,))
        with pytest.raises(DatabaseUnusableError, match="WEPEOPLE_KEY_SECRET is not the secret"):
            await key_secrets(db, FIRST)
        back = await key_secrets(db, FIRST, SECOND)
        assert back == KeySecrets(second, (first, second))
        await put_in_force(database_url, db, back)
        assert (await key_secrets(db, FIRST)).in_force == first
