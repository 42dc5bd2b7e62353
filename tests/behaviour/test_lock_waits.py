"""Requests that wait for a row which another process locks for long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from psycopg import AsyncConnection

import core.journal.journal
from tests.behaviour.examples import KEY
from tests.behaviour.locks import lock_idempotency_keys, lock_quota, other_transaction
from tests.conftest import MakeTenant
from tests.support.driver import Driver
from tests.support.tenant import Tenant, event, until_somebody_waits_for

pytestmark = pytest.mark.anyio

LONG_SECONDS = 4.0  # longer than any lock is waited for in one go
SOON_SECONDS = 2.0  # with what a busy machine may add


async def check_goes_on(driver: Driver, tenant: Tenant, seconds: float) -> None:
    """Every request of the tenant is answered soon, for a while."""
    end = time.monotonic() + seconds
    while (begin := time.monotonic()) < end:
        assert (await driver.ingest(tenant.key, [event()])).code is None
        assert time.monotonic() - begin < SOON_SECONDS
        await asyncio.sleep(0.05)


@pytest.mark.timed
async def test_a_wait_for_a_lock_does_not_delay_other_organizations(
    driver: Driver, tenant: Tenant, new_tenant: MakeTenant
) -> None:
    other = await new_tenant()
    for each in (tenant, other):
        await driver.ingest(each.key, [event()])
    async with other_transaction(tenant, commit=True) as db:
        await lock_quota(db, tenant)
        going_on = asyncio.create_task(check_goes_on(driver, other, LONG_SECONDS))
        waiting = []
        while not going_on.done():
            waiting.append(asyncio.create_task(driver.ingest(tenant.key, [event()])))
            await asyncio.sleep(0.25)
        await going_on
    assert {(await sent).code for sent in waiting} == {None}
    assert await tenant.used() == len(await tenant.events()) == 1 + len(waiting)


@pytest.mark.timed
async def test_a_key_in_flight_elsewhere_is_waited_for_and_replayed(
    driver: Driver, tenant: Tenant
) -> None:
    first = await driver.ingest(tenant.key, [event()], KEY)
    async with other_transaction(tenant, commit=True) as db:
        await lock_idempotency_keys(db, tenant)
        again = [asyncio.create_task(driver.ingest(tenant.key, [event()], KEY)) for _ in range(3)]
        await until_somebody_waits_for(db, tenant)
        # It is the key that is locked: the organization's other requests go on as well.
        await check_goes_on(driver, tenant, LONG_SECONDS)
        assert not any(sent.done() for sent in again)
    for sent in again:
        reply = await sent
        assert (reply.replayed, reply.answer) == (True, first.answer)


@pytest.mark.timed
@pytest.mark.parametrize(
    ("lock", "words"),
    [(lock_idempotency_keys, "this Idempotency-Key"), (lock_quota, "your organization")],
)
async def test_a_lock_that_is_never_given_up_is_named(
    driver: Driver,
    tenant: Tenant,
    monkeypatch: pytest.MonkeyPatch,
    lock: Callable[[AsyncConnection[Any], Tenant], Awaitable[None]],
    words: str,
) -> None:
    monkeypatch.setattr(core.journal.journal, "MAX_WAIT_SECONDS", 0.5)
    monkeypatch.setattr(core.journal.journal, "MAX_ANSWER_SECONDS", 3.0)
    await driver.ingest(tenant.key, [event()], KEY)
    async with other_transaction(tenant, commit=False) as db:
        await lock(db, tenant)
        key = KEY if lock is lock_idempotency_keys else "another"
        begin = time.monotonic()
        reply = await driver.ingest(tenant.key, [event()], key)
        assert 1.5 < time.monotonic() - begin < 6  # twelve and a half are usual
    assert reply.code == "internal_error"
    assert words in reply.message
    assert len(await tenant.events()) == 1
    assert (await driver.ingest(tenant.key, [event()], key)).code is None
