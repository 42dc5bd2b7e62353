"""The meaning of an answer: committed, or nothing written at all."""

from __future__ import annotations

import asyncio
import re

import pytest

from tests.behaviour.conftest import Connect
from tests.behaviour.examples import CALLS, broken
from tests.support.driver import Driver
from tests.support.running_service import Addresses
from tests.support.tenant import UNKNOWN_KEY, Tenant, event, make_tenant, snapshot

pytestmark = pytest.mark.anyio

WRITTEN = ("events", "snapshot_history", "snapshot_cards", "workers", "worker_links")
CHARGED = ("quota_usage", "idempotency_keys")
REFUSE_A_DEAL = "ALTER TABLE events ADD CONSTRAINT whim CHECK (event_type <> 'deal.won')"


async def test_what_is_acknowledged_is_seen_by_everybody_at_once(
    driver: Driver, tenant: Tenant
) -> None:
    async def write_and_look(index: int) -> None:
        reply = await driver.ingest(tenant.key, [event(duration=index), broken("invalid_body")])
        assert reply.code is None
        assert index in {row["duration_seconds"] for row in await tenant.events()}

    await asyncio.gather(*(write_and_look(index) for index in range(20)))
    reply = await driver.snapshot(tenant.key, snapshot())
    assert reply.code is None
    assert len(await tenant.cards()) == 1


async def count(tenant: Tenant, *tables: str) -> int:
    """The rows of tables, all organizations together."""
    total = 0
    for table in tables:
        (row,) = await tenant.rows(f"SELECT count(*) FROM {table}")  # noqa: S608
        total += row["count"]
    return total


async def test_a_batch_that_the_database_refuses_leaves_nothing(
    connect: Connect, own_server: Addresses
) -> None:
    client = connect(own_server)
    tenant = await make_tenant(own_server.database_url, monthly_quota=10)
    await tenant.change_table(
        "ALTER TABLE events ADD CONSTRAINT whim CHECK (event_type <> 'deal.won')"
    )
    events = [event(), event(eventType="deal.won", actor={"email": "alex@example.com"})]
    reply = await client.ingest(tenant.key, events, "the key")
    assert reply.code == "internal_error"
    assert "whim" not in reply.message
    assert await count(tenant, *WRITTEN, *CHARGED) == 0
    await tenant.change_table("ALTER TABLE events DROP CONSTRAINT whim")
    reply = await client.ingest(tenant.key, events, "the key")
    assert (len(reply.accepted), reply.replayed) == (2, False)


async def test_a_snapshot_that_the_database_refuses_leaves_nothing(
    connect: Connect, own_server: Addresses
) -> None:
    client = connect(own_server)
    tenant = await make_tenant(own_server.database_url)
    await tenant.change_table("ALTER TABLE snapshot_cards ADD CONSTRAINT whim CHECK (false)")
    assert (await client.snapshot(tenant.key, snapshot(), "the key")).code == "internal_error"
    assert await count(tenant, *WRITTEN, *CHARGED) == 0


async def test_a_batch_that_the_database_refuses_costs_its_neighbours_nothing(
    connect: Connect, own_server: Addresses
) -> None:
    client = connect(own_server)
    tenant = await make_tenant(own_server.database_url, monthly_quota=1_000)
    await tenant.change_table(
        "ALTER TABLE events ADD CONSTRAINT whim CHECK (event_type <> 'deal.won')"
    )
    types = ["ticket.resolved", "deal.won", "ticket.created"] * 10
    replies = await asyncio.gather(
        *(
            client.ingest(tenant.key, [event(str(index), eventType=kind)] * 2, str(index))
            for index, kind in enumerate(types)
        )
    )
    assert [reply.code for reply in replies] == [
        "internal_error" if kind == "deal.won" else None for kind in types
    ]
    assert await count(tenant, "events") == await tenant.used() == 40
    assert await count(tenant, "idempotency_keys") == len(await tenant.workers()) == 20


async def test_every_answer_has_a_request_id_of_its_own(driver: Driver, tenant: Tenant) -> None:
    keys = (tenant.key, None, UNKNOWN_KEY)
    replies = [await call(driver, key) for call in CALLS.values() for key in keys]
    assert len({reply.request_id for reply in replies}) == len(replies)
    for reply in replies:
        assert re.fullmatch("req_[0-7][0-9A-HJKMNP-TV-Z]{25}", reply.request_id)


async def test_every_error_has_a_message_and_a_page(driver: Driver, tenant: Tenant) -> None:
    for reply in (
        await driver.ping(None),
        await driver.ping(UNKNOWN_KEY),
        await driver.ingest(tenant.key, []),
        await driver.ingest(tenant.key, [broken("missing_actor")]),
    ):
        assert reply.message
        assert reply.docs_url.endswith(f"/developers/reference#{reply.code}")
