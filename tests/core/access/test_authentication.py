"""Authentication: the order of its checks, its cache and its look-ups."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from uuid import UUID

import pytest

from core.access import authentication, key_cache, key_lookups
from core.access.api_keys import generate_key
from core.access.authentication import Authenticator
from core.access.callers import KeyOfOrganization, find_callers
from core.access.invalidation import Invalidation
from core.access.key_cache import MAX_KEY_AGE_SECONDS
from core.access.key_secrets import KeySecrets, key_secrets
from core.errors import IngestError
from core.models import Caller
from core.postgres.database import Database
from core.postgres.directory import KeyPlace, find_keys
from core.postgres.sessions import Connection
from tests.support.manual_time import ManualTime
from tests.support.tenant import Tenant, make_tenant

pytestmark = pytest.mark.anyio


async def only(database: Database, _: str) -> Database:
    """The database of every cell, where there is one cell."""
    return database


class CountedLookups:
    """Counts the look-ups in the directory, and lets those of rights in the cell wait."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.begun = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        monkeypatch.setattr(authentication, "find_keys", self._find_keys)
        monkeypatch.setattr(authentication, "find_callers", self._find_callers)

    async def _find_keys(
        self, db: Connection, digests: Sequence[bytes]
    ) -> Mapping[bytes, KeyPlace]:
        self.count += len(digests)
        return await find_keys(db, digests)

    async def _find_callers(
        self, db: Connection, cell: str, wanted: Sequence[KeyOfOrganization]
    ) -> Mapping[KeyOfOrganization, Caller]:
        self.begun.set()
        found = await find_callers(db, cell, wanted)
        await self.may_answer.wait()
        return found


class Authentication:
    """An authenticator whose time stands still, and which hears of changes from the test."""

    def __init__(self, database: Database, secrets: KeySecrets, lookups: CountedLookups) -> None:
        self.time = ManualTime()
        self.lookups = lookups
        self.changes = Invalidation(database, self.time.clock)  # never run: no listener
        self.authenticator = Authenticator(
            database, partial(only, database), self.changes, self.time.clock, secrets
        )

    def announce(self, organization_id: UUID | None) -> None:
        self.changes._publish(organization_id)

    async def code(self, authorization: str | None) -> str | None:
        """The code of the refusal; None if the caller may come in."""
        try:
            await self.authenticator.authenticate(authorization)
        except IngestError as error:
            return error.code
        return None


@pytest.fixture
async def own_tenant(database_url: str) -> Tenant:
    return await make_tenant(database_url)


@pytest.fixture
async def authentication_of_tenant(
    own_tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Authentication]:
    async with Database(own_tenant.database_url) as database:
        async with database.connection() as db:
            secret = await key_secrets(db, None)
        yield Authentication(database, secret, CountedLookups(monkeypatch))


def bearer(key: str) -> str:
    return f"Bearer {key}"


async def test_a_caller_is_who_the_key_belongs_to(
    own_tenant: Tenant, authentication_of_tenant: Authentication
) -> None:
    caller = await authentication_of_tenant.authenticator.authenticate(bearer(own_tenant.key))
    assert (caller.organization_id, caller.app_id, caller.key_id) == (
        own_tenant.organization.id,
        own_tenant.app.id,
        own_tenant.api_key.id,
    )
    assert caller.allowed_event_types == set(own_tenant.app.allowed_event_types)


async def test_malformed_credentials_ask_nothing_of_the_database(
    own_tenant: Tenant, authentication_of_tenant: Authentication
) -> None:
    key = own_tenant.key
    assert await authentication_of_tenant.code(None) == "missing_authorization"
    for given in ("", key, f"Basic {key}", f"Bearer{key}", f"Bearer {key}0", f"Bearer {key}\n"):
        assert await authentication_of_tenant.code(given) == "invalid_key"
    assert authentication_of_tenant.lookups.count == 0
    for given in (f"bearer {key}", f"BEARER   {key}"):
        assert await authentication_of_tenant.code(given) is None


async def test_checks_come_in_their_order(
    own_tenant: Tenant, authentication_of_tenant: Authentication
) -> None:
    key, organization = bearer(own_tenant.key), own_tenant.organization.id

    async def code() -> str | None:
        authentication_of_tenant.announce(organization)
        return await authentication_of_tenant.code(key)

    await own_tenant.update(developer_api=False)
    assert await code() == "plan_disabled"
    await own_tenant.rows("UPDATE api_keys SET expires_at = timestamptz 'epoch'")
    assert await code() == "key_expired"
    await own_tenant.revoke()
    assert await code() == "key_revoked"
    await own_tenant.rows("DELETE FROM api_keys")
    assert await code() == "invalid_key"


async def test_a_cached_key_is_trusted_for_less_than_a_second(
    own_tenant: Tenant, authentication_of_tenant: Authentication
) -> None:
    service, time = authentication_of_tenant, authentication_of_tenant.time
    for key in (own_tenant.key, generate_key()):
        before = service.lookups.count
        first = await service.code(bearer(key))
        time.advance(MAX_KEY_AGE_SECONDS / 2)
        assert await service.code(bearer(key)) == first
        assert service.lookups.count == before + 1
        time.advance(MAX_KEY_AGE_SECONDS)
        assert await service.code(bearer(key)) == first
        assert service.lookups.count == before + 2


async def test_a_cached_key_is_trusted_while_changes_are_heard(
    own_tenant: Tenant, authentication_of_tenant: Authentication
) -> None:
    service = authentication_of_tenant
    for _ in range(5):
        assert await service.code(bearer(own_tenant.key)) is None
        service.time.advance(60)
        service.changes.heard_until = service.time.clock.monotonic()
    assert service.lookups.count == 1


async def test_a_change_of_the_organization_drops_its_keys_and_the_unknown_ones(
    own_tenant: Tenant, authentication_of_tenant: Authentication
) -> None:
    service, unknown = authentication_of_tenant, generate_key()
    other = await make_tenant(own_tenant.database_url)
    keys = [own_tenant.key, other.key, unknown]
    for key in keys:
        await service.code(bearer(key))
    service.announce(own_tenant.organization.id)
    lookups = []
    for key in keys:
        before = service.lookups.count
        await service.code(bearer(key))
        lookups.append(service.lookups.count - before)
    assert lookups == [1, 0, 1]
    service.announce(None)
    await service.code(bearer(other.key))
    assert service.lookups.count == 6


async def test_requests_with_one_key_share_a_lookup(
    own_tenant: Tenant, authentication_of_tenant: Authentication
) -> None:
    service = authentication_of_tenant
    service.lookups.may_answer.clear()
    waiting = [asyncio.create_task(service.code(bearer(own_tenant.key))) for _ in range(5)]
    await asyncio.wait_for(service.lookups.begun.wait(), 20)
    waiting[0].cancel()  # does not end the look-up of the others
    service.lookups.may_answer.set()
    assert await asyncio.gather(*waiting[1:]) == [None] * 4
    with contextlib.suppress(asyncio.CancelledError):
        await waiting[0]
    assert service.lookups.count == 1


async def test_a_lookup_begun_before_a_change_is_neither_cached_nor_shared_after_it(
    own_tenant: Tenant, authentication_of_tenant: Authentication
) -> None:
    service, key = authentication_of_tenant, bearer(own_tenant.key)
    service.lookups.may_answer.clear()
    before = asyncio.create_task(service.code(key))
    await asyncio.wait_for(service.lookups.begun.wait(), 20)
    await own_tenant.revoke()
    service.announce(own_tenant.organization.id)
    after = asyncio.create_task(service.code(key))
    service.lookups.may_answer.set()
    await before
    assert await after == "key_revoked"
    assert await service.code(key) == "key_revoked"


async def test_what_was_read_before_a_change_is_not_cached_after_it(
    own_tenant: Tenant, authentication_of_tenant: Authentication
) -> None:
    service, key = authentication_of_tenant, bearer(own_tenant.key)
    service.lookups.may_answer.clear()
    before = asyncio.create_task(service.code(key))
    await asyncio.wait_for(service.lookups.begun.wait(), 20)
    await own_tenant.revoke()
    service.announce(own_tenant.organization.id)
    service.lookups.may_answer.set()
    assert await before is None
    assert await service.code(key) == "key_revoked"
    assert service.lookups.count == 2


async def test_a_database_that_hangs_is_an_internal_error(
    own_tenant: Tenant, authentication_of_tenant: Authentication, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_lookups, "LOOKUP_SECONDS", 0.2)
    service = authentication_of_tenant
    service.lookups.may_answer.clear()
    with pytest.raises(IngestError) as caught:
        await service.authenticator.authenticate(bearer(own_tenant.key))
    assert (caught.value.code, caught.value.transient) == ("internal_error", True)


async def test_caches_are_bounded(
    own_tenant: Tenant, authentication_of_tenant: Authentication, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_cache, "MAX_CACHED_KEYS", 1)
    monkeypatch.setattr(key_cache, "MAX_CACHED_UNKNOWN_KEYS", 1)
    service, other = authentication_of_tenant, await own_tenant.another_key()
    for first, second in ((own_tenant.key, other.key), (generate_key(), generate_key())):
        for key in (first, second, second, first):
            await service.code(bearer(key))
    assert service.lookups.count == 6
