"""Requests that would wait too long or need too much memory: they are told so, and logged."""

from __future__ import annotations

import asyncio

import pytest

import core.ingest
import core.journal.held_requests
import core.journal.journal
import core.postgres.copy_rows
from tests.behaviour.locks import lock_quota, other_transaction
from tests.support.driver import Driver
from tests.support.tenant import Tenant, event

pytestmark = pytest.mark.anyio


async def test_a_request_that_would_wait_too_long_to_be_judged_is_refused(
    driver: Driver, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core.ingest, "MAX_WAITING_STEPS", 0)
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
    monkeypatch.setattr(core.journal.held_requests, "MAX_HELD_BYTES", 4_000_000)
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
            monkeypatch.setattr(core.journal.held_requests, "MAX_HELD_REQUESTS", 0)
        elif reason == "locked":
            monkeypatch.setattr(core.journal.journal, "MAX_ANSWER_SECONDS", 2.0)
            await lock_quota(db, tenant)
        else:
            monkeypatch.setattr(
                core.postgres.copy_rows, "table", lambda _: b"what COPY does not take"
            )
        reply = await driver.ingest(tenant.key, [event()])
    assert reply.code == "internal_error"
    answered = [record for record in caplog.records if "internal_error" in record.getMessage()]
    assert [getattr(record, "request_id", None) for record in answered] == [reply.request_id]
    assert (answered[0].exc_info is not None) == (reason == "refused by the database")
