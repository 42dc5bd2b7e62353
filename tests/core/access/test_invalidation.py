"""Cache invalidation by PostgreSQL's notifications."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from uuid import UUID

import pytest

from core.access.invalidation import HEARTBEAT_SECONDS, Invalidation
from core.clock import Clock
from core.postgres.database import Database
from tests.support.database import connect
from tests.support.databases import read_only
from tests.support.tenant import Tenant, make_tenant

pytestmark = pytest.mark.anyio

WAIT_SECONDS = 20


class Changes:
    """The changes that a subscriber was told of."""

    def __init__(self) -> None:
        self.told: list[UUID | None] = []
        self._news = asyncio.Event()

    def tell(self, organization_id: UUID | None) -> None:
        self.told.append(organization_id)
        self._news.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            while not condition():
                self._news.clear()
                await self._news.wait()


@contextlib.asynccontextmanager
async def listening(database_url: str, changes: Changes) -> AsyncIterator[Invalidation]:
    async with Database(database_url) as database:
        invalidation = Invalidation(database, Clock())
        invalidation.subscribe(changes.tell)
        task = asyncio.create_task(invalidation.run())
        try:
            await changes.until(lambda: bool(changes.told))
            yield invalidation
        finally:
            task.cancel()
            await asyncio.wait({task})


async def end_listener(tenant: Tenant) -> None:
    await tenant.rows(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name = 'wepeople-ingest changes' AND datname = current_database()"
    )


async def test_a_subscriber_is_told_whose_rights_changed(database_url: str) -> None:
    tenant, other = await make_tenant(database_url), await make_tenant(database_url)
    changes = Changes()
    async with listening(database_url, changes):
        assert changes.told == [None]  # anything may have changed before it listened
        await tenant.revoke()
        await other.allow("call.ended")
        await tenant.update(developer_api=False)
        await changes.until(lambda: len(changes.told) == 4)
        changed = [tenant.organization.id, other.organization.id, tenant.organization.id]
        assert changes.told == [None, *changed]


async def test_a_change_committed_before_heard_until_was_delivered(database_url: str) -> None:
    tenant, changes = await make_tenant(database_url), Changes()
    async with listening(database_url, changes) as invalidation:
        await tenant.revoke()
        revoked_at = Clock().monotonic()
        while invalidation.heard_until < revoked_at:
            assert Clock().monotonic() < revoked_at + WAIT_SECONDS, "nothing more is heard"
            await asyncio.sleep(0.01)
        assert changes.told == [None, tenant.organization.id]


async def test_anything_may_have_changed_while_the_connection_was_lost(database_url: str) -> None:
    tenant, changes = await make_tenant(database_url), Changes()
    async with listening(database_url, changes):
        await end_listener(tenant)
        await changes.until(lambda: changes.told.count(None) == 2)
        await tenant.revoke()
        await changes.until(lambda: tenant.organization.id in changes.told)


async def test_a_database_that_is_read_only_is_not_listened_to(database_url: str) -> None:
    """After a failover its server hears of no change any more."""
    tenant, changes = await make_tenant(database_url), Changes()
    async with listening(database_url, changes) as invalidation, await connect(database_url) as db:
        async with read_only(db):
            await changes.until(lambda: changes.told.count(None) == 2)  # it has another session
            heard_until = invalidation.heard_until
            await asyncio.sleep(4 * HEARTBEAT_SECONDS)
            assert invalidation.heard_until == heard_until
        await changes.until(lambda: changes.told.count(None) > 2)
        await tenant.revoke()
        await changes.until(lambda: tenant.organization.id in changes.told)
