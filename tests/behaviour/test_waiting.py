"""Requests that wait for another process's unfinished transaction, and what its end makes of them.

The other process is the test itself, which holds the rows that a replica would hold.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest
from psycopg import AsyncConnection

import core.access.admission
import core.ingest
import core.journal.journal
import core.postgres.copy_rows
from core import ids
from core.access.admission import MAX_REQUEST_BYTES, FairTurns, SharedBudget, overloaded
from core.access.fair_queue import Flow
from tests.behaviour.examples import KEY
from tests.conftest import MakeTenant
from tests.support.driver import Driver
from tests.support.tenant import Tenant, event, now_us, until_somebody_waits_for

pytestmark = pytest.mark.anyio

ALEX = {"externalId": "crm-42", "email": "alex@example.com"}


@contextlib.asynccontextmanager
async def unfinished(tenant: Tenant, commit: bool) -> AsyncIterator[AsyncConnection[Any]]:
    """Another process's transaction; it ends with the block."""
    async with await tenant.connect() as db:
        await db.execute("BEGIN")
        yield db
        await db.execute("COMMIT" if commit else "ROLLBACK")


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
    async with unfinished(tenant, commit) as db:
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
    async with unfinished(tenant, commit) as db:
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
    async with unfinished(tenant, commit) as db:
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
    async with unfinished(tenant, commit) as db:
        await db.execute(
            "UPDATE quota_usage SET used = used + 1 WHERE organization_id = %s",
            (tenant.organization.id,),
        )
        sent = asyncio.create_task(driver.ingest(tenant.key, [event()] * 3))
        await until_somebody_waits_for(db, tenant)
    assert len((await sent).accepted) == (1 if commit else 2)
    assert await tenant.used() == 3


LONG_SECONDS = 4.0  # longer than any lock is waited for in one go
SOON_SECONDS = 2.0  # with what a busy machine may add


async def charge(db: AsyncConnection[Any], tenant: Tenant) -> None:
    """Hold the row that every write of the organization needs."""
    await db.execute(
        "UPDATE quota_usage SET used = used WHERE organization_id = %s", (tenant.organization.id,)
    )


@pytest.mark.parametrize("used", [0, 7, 8, 9, 10])
@pytest.mark.parametrize("commit", [True, False])
async def test_the_quota_is_what_others_leave_of_it_meanwhile(
    driver: Driver, new_tenant: MakeTenant, used: int, commit: bool
) -> None:
    tenant = await new_tenant(monthly_quota=10)
    assert (await driver.ingest(tenant.key, [event()])).code is None
    async with unfinished(tenant, commit) as db:
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


async def use_key(db: AsyncConnection[Any], tenant: Tenant) -> None:
    """Hold the row of the idempotency key."""
    await db.execute(
        "UPDATE idempotency_keys SET receipt = receipt WHERE organization_id = %s",
        (tenant.organization.id,),
    )


async def check_goes_on(driver: Driver, tenant: Tenant, seconds: float) -> None:
    """Every request of the tenant is answered soon, for a while."""
    end = time.monotonic() + seconds
    while (begin := time.monotonic()) < end:
        assert (await driver.ingest(tenant.key, [event()])).code is None
        assert time.monotonic() - begin < SOON_SECONDS
        await asyncio.sleep(0.05)


async def test_who_waits_for_a_lock_does_not_hold_up_other_organizations(
    driver: Driver, tenant: Tenant, new_tenant: MakeTenant
) -> None:
    other = await new_tenant()
    for each in (tenant, other):
        await driver.ingest(each.key, [event()])
    async with unfinished(tenant, True) as db:
        await charge(db, tenant)
        going_on = asyncio.create_task(check_goes_on(driver, other, LONG_SECONDS))
        waiting = []
        while not going_on.done():
            waiting.append(asyncio.create_task(driver.ingest(tenant.key, [event()])))
            await asyncio.sleep(0.25)
        await going_on
    assert {(await sent).code for sent in waiting} == {None}
    assert await tenant.used() == len(await tenant.events()) == 1 + len(waiting)


async def test_a_key_in_flight_elsewhere_is_waited_for_and_replayed(
    driver: Driver, tenant: Tenant
) -> None:
    first = await driver.ingest(tenant.key, [event()], KEY)
    async with unfinished(tenant, True) as db:
        await use_key(db, tenant)
        again = [asyncio.create_task(driver.ingest(tenant.key, [event()], KEY)) for _ in range(3)]
        await until_somebody_waits_for(db, tenant)
        # It is the key that is locked: the organization's other requests go on as well.
        await check_goes_on(driver, tenant, LONG_SECONDS)
        assert not any(sent.done() for sent in again)
    for sent in again:
        reply = await sent
        assert (reply.replayed, reply.answer) == (True, first.answer)


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
    await until_denied(driver, tenant)
    async with unfinished(tenant, commit) as db:
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


async def until_denied(driver: Driver, tenant: Tenant) -> None:
    """Return once the service knows that the type is no longer allowed."""
    async with asyncio.timeout(20):
        while (await driver.ingest(tenant.key, [event()])).code is None:
            continue


@pytest.mark.parametrize(
    ("hold", "words"), [(use_key, "this Idempotency-Key"), (charge, "your organization")]
)
async def test_a_lock_that_is_never_given_up_is_named(
    driver: Driver,
    tenant: Tenant,
    monkeypatch: pytest.MonkeyPatch,
    hold: Callable[[AsyncConnection[Any], Tenant], Awaitable[None]],
    words: str,
) -> None:
    monkeypatch.setattr(core.journal.journal, "MAX_WAIT_SECONDS", 0.5)
    monkeypatch.setattr(core.journal.journal, "MAX_ANSWER_SECONDS", 3.0)
    await driver.ingest(tenant.key, [event()], KEY)
    async with unfinished(tenant, False) as db:
        await hold(db, tenant)
        key = KEY if hold is use_key else "another"
        begin = time.monotonic()
        reply = await driver.ingest(tenant.key, [event()], key)
        assert 1.5 < time.monotonic() - begin < 6  # twelve and a half are usual
    assert reply.code == "internal_error"
    assert words in reply.message
    assert len(await tenant.events()) == 1
    assert (await driver.ingest(tenant.key, [event()], key)).code is None


async def test_who_would_wait_too_long_to_be_looked_at_is_told_so(
    driver: Driver, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = FairTurns.begin

    async def too_many_wait(turns: FairTurns, flow: Flow, units: int = 1) -> None:
        if units > 1:
            raise overloaded()
        await begin(turns, flow, units)

    monkeypatch.setattr(FairTurns, "begin", too_many_wait)
    assert (await driver.ingest(tenant.key, [event()])).code is None
    reply = await driver.ingest(tenant.key, [event()] * 60)
    assert (reply.code, reply.message) == (
        "internal_error",
        "The service is overloaded. Retry shortly.",
    )
    assert len(await tenant.events()) == 1


async def test_what_waits_is_counted_with_all_the_memory_it_holds(
    driver: Driver, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core.journal.journal, "MAX_WAIT_SECONDS", 2.0)
    monkeypatch.setattr(core.journal.journal, "MAX_ANSWER_SECONDS", 3.0)
    quarter = MAX_REQUEST_BYTES // 8 - 1  # four of them leave one organization no more
    monkeypatch.setattr(core.ingest, "request_bytes", lambda *_: quarter)
    await driver.ingest(tenant.key, [event()])
    refused = event(eventType="not.allowed", metadata={"text": "x" * 16_000})
    big = [event(), *[refused] * 55]  # nine tenths of a megabyte, of which little is to be written
    async with unfinished(tenant, False) as db:
        await charge(db, tenant)
        for _ in range(2):  # who is no longer waited for is not counted
            replies = await asyncio.gather(*(driver.ingest(tenant.key, big) for _ in range(7)))
            assert {reply.code for reply in replies} == {"internal_error"}
            waited = ["your organization" in reply.message for reply in replies]
            assert waited.count(True) == 4
    reply = await driver.ingest(tenant.key, big)
    assert (len(reply.accepted), len(reply.rejected)) == (1, 55)


@pytest.mark.parametrize("reason", ["overloaded", "locked", "refused by the database"])
async def test_every_internal_error_is_logged_once_under_its_request_id(
    driver: Driver,
    tenant: Tenant,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    reason: str,
) -> None:
    await driver.ingest(tenant.key, [event()])
    async with unfinished(tenant, False) as db:
        if reason == "overloaded":
            monkeypatch.setattr(SharedBudget, "try_take", lambda *_: False)
        elif reason == "locked":
            monkeypatch.setattr(core.journal.journal, "MAX_ANSWER_SECONDS", 2.0)
            await charge(db, tenant)
        else:
            monkeypatch.setattr(
                core.postgres.copy_rows, "table", lambda _: b"what COPY does not take"
            )
        reply = await driver.ingest(tenant.key, [event()])
    assert reply.code == "internal_error"
    answered = [record for record in caplog.records if "internal_error" in record.getMessage()]
    assert [getattr(record, "request_id", None) for record in answered] == [reply.request_id]
    assert (answered[0].exc_info is not None) == (reason == "refused by the database")
