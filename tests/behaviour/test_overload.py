"""Requests that would wait too long or need too much memory: they are told so, and logged."""

from __future__ import annotations

import asyncio

import pytest

import core.ingest
import core.journal.journal
import core.postgres.copy_rows
from core.access.fair_queue import Flow
from core.access.fair_turns import FairTurns
from core.access.memory_bounds import MAX_REQUEST_BYTES
from core.access.shared_budget import SharedBudget, overloaded
from tests.behaviour.locks import lock_quota, other_transaction
from tests.support.driver import Driver
from tests.support.tenant import Tenant, event

pytestmark = pytest.mark.anyio


async def test_a_request_that_would_wait_too_long_to_be_judged_is_refused(
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


async def test_a_waiting_request_counts_with_all_the_memory_it_needs(
    driver: Driver, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core.journal.journal, "MAX_WAIT_SECONDS", 2.0)
    monkeypatch.setattr(core.journal.journal, "MAX_ANSWER_SECONDS", 3.0)
    eighth = MAX_REQUEST_BYTES // 8 - 1  # an organization alone may hold four of them
    monkeypatch.setattr(core.ingest, "request_bytes", lambda *_: eighth)
    await driver.ingest(tenant.key, [event()])
    refused = event(eventType="not.allowed", metadata={"text": "x" * 16_000})
    big = [event(), *[refused] * 55]  # nine tenths of a megabyte, of which little is to be written
    async with other_transaction(tenant, commit=False) as db:
        await lock_quota(db, tenant)
        for _ in range(2):  # the first ones, given up, are not counted any more
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
    async with other_transaction(tenant, commit=False) as db:
        if reason == "overloaded":
            monkeypatch.setattr(SharedBudget, "try_take", lambda *_: False)
        elif reason == "locked":
            monkeypatch.setattr(core.journal.journal, "MAX_ANSWER_SECONDS", 2.0)
            await lock_quota(db, tenant)
        else:
            monkeypatch.setattr(core.postgres.copy_rows, "texts", lambda _: ["no time"] * 5)
        reply = await driver.ingest(tenant.key, [event()])
    assert reply.code == "internal_error"
    answered = [record for record in caplog.records if "internal_error" in record.getMessage()]
    assert [getattr(record, "request_id", None) for record in answered] == [reply.request_id]
    assert (answered[0].exc_info is not None) == (reason == "refused by the database")
