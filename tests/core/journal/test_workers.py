"""Workers of a transaction: found, linked or made, each person once."""

from __future__ import annotations

from uuid import UUID

import pytest

from core.journal import workers
from core.journal.workers import WorkerCache
from core.models import Actor, Worker, WorkerByEmail, WorkerById, WorkerByLink, WorkerName
from tests.support.tenant import Tenant, make_tenant, now_us

pytestmark = pytest.mark.anyio


@pytest.fixture
async def tenant(database_url: str) -> Tenant:
    """An organization in a database of its own."""
    return await make_tenant(database_url)


def by_link(tenant: Tenant, external_id: str) -> WorkerByLink:
    """The name that the tenant's app gives a person."""
    return WorkerByLink(tenant.organization.id, tenant.app.id, external_id)


async def test_a_link_and_an_e_mail_of_one_person_make_one_worker(tenant: Tenant) -> None:
    link = by_link(tenant, "crm-user-1")
    address = WorkerByEmail(tenant.organization.id, "alex@example.com")
    missing: dict[WorkerName, Actor] = {
        link: Actor(external_id="crm-user-1", email="Alex@example.com"),
        address: Actor(email="alex@example.com"),
    }
    async with await tenant.connect() as db, db.transaction():
        made = await workers.provide(db, missing, now_us())
        assert made[link] == made[address]
        assert made[link].display_name == "Alex"
        assert await workers.find(db, missing) == made


async def test_a_link_goes_to_the_worker_who_has_its_e_mail(tenant: Tenant) -> None:
    address = WorkerByEmail(tenant.organization.id, "alex@example.com")
    link = by_link(tenant, "crm-user-1")
    actor = Actor(external_id="crm-user-1", email="alex@example.com", display_name="Other Name")
    async with await tenant.connect() as db, db.transaction():
        first = await workers.provide(db, {address: Actor(email="alex@example.com")}, now_us())
        assert await workers.provide(db, {link: actor}, now_us()) == {link: first[address]}
    assert len(await tenant.rows("SELECT id FROM workers")) == 1


async def test_a_person_whose_e_mail_another_transaction_takes_meanwhile_is_that_worker(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = by_link(tenant, "crm-user-1")
    actor = Actor(external_id="crm-user-1", email="alex@example.com")
    insert = workers._insert

    async def lose_the_race(db: object, makers: list[object], at_us: int) -> set[UUID]:
        async with await tenant.connect() as other:
            taken = (tenant.organization.id, UUID(int=7), "First", "alex@example.com")
            await other.execute(
                "INSERT INTO workers"
                " (organization_id, id, display_name, email, email_key, created_at)"
                " VALUES (%s, %s, %s, %s, 'alex@example.com', now())",
                taken,
            )
        return await insert(db, makers, at_us)  # type: ignore[arg-type]

    monkeypatch.setattr(workers, "_insert", lose_the_race)
    async with await tenant.connect() as db, db.transaction():
        made = await workers.provide(db, {link: actor}, now_us())
        assert made == {link: Worker(UUID(int=7), "First")}
        assert await workers.find(db, [link]) == made  # the link was redirected


async def test_an_id_of_nobody_is_not_found(tenant: Tenant) -> None:
    async with await tenant.connect() as db:
        assert not await workers.find(db, [WorkerById(tenant.organization.id, UUID(int=1))])


def test_the_oldest_entries_give_way_when_the_cache_is_full() -> None:
    cache = WorkerCache(most=2)
    names = [WorkerByEmail(UUID(int=1), address) for address in "abc"]
    for name in names:
        cache.remember({name: Worker(UUID(int=2), "A")}, {UUID(int=1): 0})
    assert [cache.get(name) is not None for name in names] == [False, True, True]
