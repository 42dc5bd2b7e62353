"""What operators see of a refusal: a line in the log, and the reason by request id."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from core import refusal_log
from tests.behaviour.conftest import Connect
from tests.support.driver import Driver, Reply
from tests.support.running_service import RunningService
from tests.support.tenant import Tenant, event, make_tenant, snapshot
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio


async def kept(tenant: Tenant, reply: Reply, count: int = 1) -> list[dict[str, Any]]:
    """The rejections of a request, once they are all there."""

    async def rows() -> list[dict[str, Any]]:
        return await tenant.rows(
            "SELECT * FROM rejections WHERE organization_id = %s AND request_id = %s ORDER BY id",
            *(tenant.organization.id, reply.request_id),
        )

    async def are_there() -> bool:
        return len(await rows()) == count

    await eventually(are_there, "the rejections are written")
    return await rows()


async def test_the_id_of_a_refused_request_leads_to_its_reason(
    driver: Driver, tenant: Tenant
) -> None:
    for reply in (
        await driver.snapshot(tenant.key, snapshot(snapshotType="x")),
        await driver.ingest(tenant.key, [event()], "k" * 201),
    ):
        [row] = await kept(tenant, reply)
        assert (row["code"], row["message"]) == (reply.code, reply.message)
        assert (row["item_index"], row["item"]) == (None, None)
        assert (row["app_slug"], row["key_hint"]) == (tenant.app.slug, tenant.key[-4:])


async def test_rejected_events_are_found_by_their_request(driver: Driver, tenant: Tenant) -> None:
    events = [event(), event(category="x"), event(eventType="not.allowed")]
    for some in (events, events[1:]):
        reply = await driver.ingest(tenant.key, some)
        rows = await kept(tenant, reply, 2)
        assert [(row["item_index"], row["code"], row["message"]) for row in rows] == [
            (one.index, one.code, one.message) for one in reply.rejected
        ]
        assert [row["field"] for row in rows] == ["category", "eventType"]


async def test_a_key_that_may_not_be_used_is_told_apart(driver: Driver, tenant: Tenant) -> None:
    await tenant.revoke()

    async def is_refused() -> bool:
        return (await driver.ping(tenant.key)).code == "key_revoked"

    await eventually(is_refused, "the key is refused")
    [row] = await kept(tenant, await driver.ping(tenant.key))
    assert row["code"] == "key_revoked"


async def test_a_line_of_the_log_has_the_request_id(
    driver: Driver, tenant: Tenant, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, refusal_log.log.name)
    reply = await driver.ingest(tenant.key, [event(category="x")] * 2)

    def lines() -> list[dict[str, Any]]:
        records = [vars(record) for record in caplog.records]
        return [record for record in records if record.get("request_id") == reply.request_id]

    await eventually(lambda: lines() != [], "there is a line")
    [line] = lines()
    assert (line["protocol"], line["endpoint"]) == (driver.name, "events")
    assert (line["code"], line["events"], line["app"]) == ("invalid_body", 2, tenant.app.slug)
    assert line["status"] in ("400", "INVALID_ARGUMENT")
    assert line["milliseconds"] > 0


@pytest.fixture
async def keeping(database_url: str, connect: Connect) -> AsyncIterator[Driver]:
    """A client of a service that keeps the content of rejected events."""
    service = RunningService(database_url, keep_rejected_items=True)
    try:
        yield connect(service.start())
    finally:
        service.stop()


async def test_the_content_of_a_rejected_event_is_kept_if_that_is_wanted(
    keeping: Driver, database_url: str
) -> None:
    tenant = await make_tenant(database_url)
    wrong = event(category="x", metadata={"n": 1.50})
    reply = await keeping.ingest(tenant.key, [event(), wrong])
    [row] = await kept(tenant, reply)
    assert json.loads(row["item"]) == wrong
