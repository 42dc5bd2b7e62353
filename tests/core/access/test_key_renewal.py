"""Keys while the secret of their digests changes: known by both, renewed at use."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Final

import pytest

from core.access import authentication, key_renewal
from core.access.api_keys import generate_key
from core.access.authentication import Authenticator
from core.access.invalidation import Invalidation
from core.access.key_secrets import KeySecrets, key_secrets
from core.admin import keys
from core.admin.cell_sessions import CellSessions
from core.admin.key_secrets import keys_with_old_digests, rotate
from core.clock import Clock
from core.errors import IngestError
from core.postgres import directory
from core.postgres.database import Database
from core.postgres.directory import KeyPlace
from core.postgres.sessions import Connection
from tests.support.cells import add_cell, make_tenant_in
from tests.support.database import connect
from tests.support.tenant import Tenant, make_tenant, now_us
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

NEW: Final = "a secret that comes into force"
HERE, ELSEWHERE = "home", "west"


class Server:
    """The authentication of one server: of its start with NEW, or with the secret of before."""

    def __init__(self, home: Database, changes: Invalidation, authenticator: Authenticator) -> None:
        self.home = home
        self.changes = changes
        self.authenticator = authenticator

    async def code(self, key: str) -> str | None:
        """The code of the refusal; None if the key is accepted."""
        try:
            await self.authenticator.authenticate(f"Bearer {key}")
        except IngestError as error:
            return error.code
        return None


@contextlib.asynccontextmanager
async def server(url: str, configured: str | None = NEW) -> AsyncIterator[Server]:
    """A server over the home database and a schema in it, which hears of changes."""
    clock = Clock()
    async with Database(url) as home:
        async with home.connection() as db:
            secrets = await key_secrets(db, configured)

        async def database_of(cell: str) -> Database:
            return home if cell == HERE else home.in_schema(cell)

        changes = Invalidation(home, clock)
        listening = asyncio.create_task(changes.run())
        try:
            yield Server(home, changes, Authenticator(home, database_of, changes, clock, secrets))
        finally:
            listening.cancel()
            await asyncio.wait({listening})


@pytest.fixture(params=[HERE, ELSEWHERE])
async def tenant(request: pytest.FixtureRequest, database_url: str) -> Tenant:
    if request.param == HERE:
        return await make_tenant(database_url, HERE)
    return await make_tenant_in(await add_cell(database_url, ELSEWHERE), database_url)


async def put_in_force(url: str) -> None:
    async with await connect(url) as db, CellSessions(db, url, 10) as cells:
        assert await rotate(cells, await key_secrets(db, NEW), now_us())


async def digests(tenant: Tenant) -> tuple[set[bytes], set[bytes]]:
    """The digests of the tenant's keys in the directory, and in its cell."""
    async with await connect(tenant.database_url) as home:
        entered = await (
            await home.execute(
                "SELECT digest FROM directory_keys WHERE organization_id = %s",
                (tenant.organization.id,),
            )
        ).fetchall()
    stored = await tenant.rows("SELECT digest FROM api_keys")
    return {row[0] for row in entered}, {row["digest"] for row in stored}


async def renewed(tenant: Tenant) -> bytes:
    async with await connect(tenant.database_url) as home:
        return (await key_secrets(home, NEW)).digests(tenant.key)[0]


async def until_renewed(*keys: Tenant) -> None:
    """Return once the old digests have left the directory, too, which comes last."""
    new = {await renewed(key) for key in keys}

    async def is_renewed() -> bool:
        return await digests(keys[0]) == (new, new)

    await eventually(is_renewed, "the digests are renewed in the directory and in the cell")


async def old_keys(url: str) -> int:
    async with await connect(url) as db, CellSessions(db, url, 10) as cells:
        return len(await keys_with_old_digests(cells, now_us()))


async def test_a_digest_is_renewed_at_use_once_the_secret_is_in_force(tenant: Tenant) -> None:
    url = tenant.database_url
    before = await digests(tenant)
    async with server(url, None) as old, server(url) as new:
        assert await new.code(tenant.key) is None
        assert await old.code(tenant.key) is None  # of the upgrade, which knows one secret
        assert await digests(tenant) == before
        assert await old_keys(url) == 0
        await put_in_force(url)
        assert await old_keys(url) == 1

        async def is_renewed() -> bool:  # cached as it was, and used again and again
            assert await new.code(tenant.key) is None
            return await old_keys(url) == 0

        await eventually(is_renewed, "no key depends on the old secret")
        await until_renewed(tenant)
        assert await new.code(tenant.key) is None
    async with await connect(url) as db:
        await db.execute("UPDATE directory_keys SET secret_check = 'x' WHERE secret_check IS NULL")
        assert len((await key_secrets(db, NEW)).accepted) == 1
    async with server(url) as later:  # that accepts NEW alone
        assert await later.code(tenant.key) is None


async def test_servers_renew_the_same_keys_at_once(tenant: Tenant) -> None:
    url = tenant.database_url
    tenants = [tenant, *[await tenant.another_key() for _ in range(19)]]
    await put_in_force(url)
    async with server(url) as one, server(url) as other:
        codes = await asyncio.gather(
            *(each.code(key.key) for key in tenants for each in (one, other, one))
        )
        assert set(codes) == {None}

        async def all_are() -> bool:
            assert {await one.code(key.key) for key in tenants} == {None}
            return await old_keys(url) == 0

        await eventually(all_are, "all digests are renewed")
        await until_renewed(*tenants)


async def test_a_server_of_before_makes_keys_with_the_secret_that_is_in_force(
    tenant: Tenant,
) -> None:
    url = tenant.database_url
    async with await connect(url) as home:
        started = await key_secrets(home, NEW)
        await put_in_force(url)
        async with tenant.in_cell() as cell:
            _, key = await keys.create(cell, tenant.app, started, now_us())
        assert await old_keys(url) == 1  # that of the tenant
        only_new = KeySecrets(started.wanted, (started.wanted,))
        assert only_new.digests(key)[0] in (await digests(tenant))[0]


async def test_a_revoked_key_stays_revoked_and_is_renewed(tenant: Tenant) -> None:
    await put_in_force(tenant.database_url)
    await tenant.revoke()
    assert await old_keys(tenant.database_url) == 0  # it needs no secret any more
    async with server(tenant.database_url) as new:
        assert await new.code(tenant.key) == "key_revoked"
        await until_renewed(tenant)
        assert await new.code(tenant.key) == "key_revoked"


STEPS: Final = ("_enter", "_replace", "_forget")


@contextlib.contextmanager
def crash_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> Iterator[asyncio.Event]:
    """Renewals within the block end after so many steps; the event tells of the first."""
    crashed = asyncio.Event()

    async def crash(*_: Any) -> bool:
        crashed.set()
        raise OSError("crash")

    with monkeypatch.context() as patched:
        patched.setattr(key_renewal, STEPS[steps], crash)
        yield crashed


@pytest.mark.parametrize("steps", [0, 1, 2])
async def test_a_renewal_that_is_interrupted_is_completed_at_the_next_use(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    url = tenant.database_url
    await put_in_force(url)
    with crash_after(monkeypatch, steps) as crashed:
        async with server(url) as new:
            assert await new.code(tenant.key) is None
            await asyncio.wait_for(crashed.wait(), 20)
            assert await new.code(tenant.key) is None
    entered, stored = await digests(tenant)
    is_at_home = tenant.cell.name == HERE  # whose trigger forgets the old one with the change
    assert len(entered) == (1 if steps == 0 or (steps == 2 and is_at_home) else 2)
    assert (stored == {await renewed(tenant)}) is (steps == 2)
    async with server(url) as again:
        assert await again.code(tenant.key) is None
        await until_renewed(tenant)


async def test_made_up_keys_are_looked_for_in_one_query(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = []

    async def counted(db: Connection, digests: Sequence[bytes]) -> dict[bytes, KeyPlace]:
        queries.append(len(digests))
        return await directory.find_keys(db, digests)

    monkeypatch.setattr(authentication, "find_keys", counted)
    async with server(tenant.database_url) as new:
        unknown = generate_key()
        for _ in range(3):
            assert await new.code(unknown) == "invalid_key"
    assert queries == [2]
