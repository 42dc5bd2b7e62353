"""Requests that meet another process's transaction: its commit or rollback decides for them."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest
from psycopg import AsyncConnection

from core import ids
from tests.behaviour.examples import KEY
from tests.behaviour.locks import other_transaction
from tests.conftest import MakeTenant
from tests.support.driver import Driver
from tests.support.tenant import Tenant, event, now_us, until_somebody_waits_for
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

ALEX = {"externalId": "crm-42", "email": "alex@example.com"}


async def make_worker(db: AsyncConnection[Any], tenant: Tenant, email: str | None) -> UUID:
    """Insert a worker as another process does."""
    worker_id = ids.new(now_us())
    await db.execute(
        "INSERT INTO workers VALUES (%s, %s, 'By another process', %s, %s, now())",
        (tenant.organization.id, worker_id, email, email),
    )
    return worker_id


@pytest.mark.parametrize("actor", [ALEX, {"email": ALEX["email"]}, {**ALEX, "externalId": "43"}])
@pytest.mark.parametrize("commit", [True, False])
async def test_an_email_that_another_process_takes_meanwhile(
    driver: Driver, tenant: Tenant, actor: dict[str, str], commit: bool
) -> None:
    async with other_transaction(tenant, commit=commit) as db:
        other = await make_worker(db, tenant, ALEX["email"])
        sent = asyncio.create_task(driver.ingest(tenant.key, [event(actor=actor)]))
        await until_somebody_waits_for(db, tenant)
    assert (await sent).code is None
    (worker,) = await tenant.workers()
    assert (worker["id"] == other) == commit
    await driver.ingest(tenant.key, [event(actor=actor)])  # the link leads there, too
    assert [row["worker_id"] for row in await tenant.events()] == [worker["id"]] * 2


@pytest.mark.parametrize("actor", [ALEX, {"externalId": ALEX["externalId"]}])
@pytest.mark.parametrize("commit", [True, False])
async def test_an_external_id_that_another_process_links_meanwhile(
    driver: Driver, tenant: Tenant, actor: dict[str, str], commit: bool
) -> None:
    async with other_transaction(tenant, commit=commit) as db:
        other = await make_worker(db, tenant, None)
        await db.execute(
            "INSERT INTO worker_links VALUES (%s, %s, %s, %s)",
            (tenant.organization.id, tenant.app.id, ALEX["externalId"], other),
        )
        sent = asyncio.create_task(driver.ingest(tenant.key, [event(actor=actor)]))
        await until_somebody_waits_for(db, tenant)
    assert (await sent).code is None
    (worker,) = await tenant.workers()
    assert (worker["id"] == other) == commit
    assert [row["worker_id"] for row in await tenant.events()] == [worker["id"]]


@pytest.mark.parametrize("commit", [True, False])
async def test_an_idempotency_key_that_another_process_uses_meanwhile(
    driver: Driver, tenant: Tenant, commit: bool
) -> None:
    async with other_transaction(tenant, commit=commit) as db:
        await db.execute(
            "INSERT INTO idempotency_keys VALUES (%s, %s, 'events', %s, 'of other data', "
            '\'{"request_id": "req_", "received_us": 0}\', now())',
            (tenant.organization.id, tenant.api_key.id, KEY),
        )
        sent = asyncio.create_task(driver.ingest(tenant.key, [event()], KEY))
        await until_somebody_waits_for(db, tenant)
    assert (await sent).code == ("invalid_body" if commit else None)
    assert len(await tenant.events()) == (0 if commit else 1)


@pytest.mark.parametrize("commit", [True, False])
async def test_a_quota_that_another_process_charges_meanwhile(
    driver: Driver, tenant: Tenant, commit: bool
) -> None:
    await tenant.update(monthly_quota=3)
    await driver.ingest(tenant.key, [event()])
    async with other_transaction(tenant, commit=commit) as db:
        await db.execute(
            "UPDATE quota_usage SET used = used + 1 WHERE organization_id = %s",
            (tenant.organization.id,),
        )
        sent = asyncio.create_task(driver.ingest(tenant.key, [event()] * 3))
        await until_somebody_waits_for(db, tenant)
    assert len((await sent).accepted) == (1 if commit else 2)
    assert await tenant.used() == 3


@pytest.mark.parametrize("used", [0, 7, 8, 9, 10])
@pytest.mark.parametrize("commit", [True, False])
async def test_the_quota_is_what_others_leave_of_it_meanwhile(
    driver: Driver, new_tenant: MakeTenant, used: int, commit: bool
) -> None:
    tenant = await new_tenant(monthly_quota=10)
    assert (await driver.ingest(tenant.key, [event()])).code is None
    async with other_transaction(tenant, commit=commit) as db:
        await db.execute(
            "UPDATE quota_usage SET used = %s WHERE organization_id = %s",
            (used + 1, tenant.organization.id),
        )
        sent = asyncio.create_task(driver.ingest(tenant.key, [event()] * 3, KEY))
        await until_somebody_waits_for(db, tenant)
    fit = min(3, 9 - used) if commit else 3
    reply = await sent
    assert len(reply.accepted) == max(fit, 0)
    assert reply.code == ("quota_exceeded" if fit <= 0 else None)
    assert len(await tenant.events()) == 1 + max(fit, 0)
    assert await tenant.used() == (used + 1 if commit else 1) + max(fit, 0)


@pytest.mark.parametrize("commit", [True, False])
async def test_a_request_that_can_write_nothing_waits_for_the_first_with_its_key(
    driver: Driver, tenant: Tenant, commit: bool
) -> None:
    """The first was sent while the type was still allowed."""
    stored = await driver.ingest(tenant.key, [event()], KEY)
    (row,) = await tenant.rows(
        "DELETE FROM idempotency_keys WHERE organization_id = %s "
        "RETURNING organization_id, key_id, endpoint, idempotency_key, digest, receipt::text, "
        "created_at",
        tenant.organization.id,
    )
    await tenant.deny("ticket.resolved")

    async def is_denied() -> bool:
        return (await driver.ingest(tenant.key, [event()])).code is not None

    await eventually(is_denied, "the service knows that the type is denied")
    async with other_transaction(tenant, commit=commit) as db:
        await db.execute(
            "INSERT INTO idempotency_keys VALUES (%s, %s, %s, %s, %s, %s, %s)", tuple(row.values())
        )
        sent = asyncio.create_task(driver.ingest(tenant.key, [event()], KEY))
        await until_somebody_waits_for(db, tenant)
    reply = await sent
    if commit:
        assert (reply.replayed, reply.answer) == (True, stored.answer)
    else:
        assert reply.code == "forbidden_event_type"
        assert not await tenant.rows(
            "SELECT endpoint FROM idempotency_keys WHERE organization_id = %s",
            tenant.organization.id,
        )
