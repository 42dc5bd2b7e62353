"""The composed service: each cell has all that it needs, and keeps it in its own tables."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from psycopg import sql

from core.postgres import partitions
from core.timestamps import from_datetime
from tests.support.cells import add_cell, make_tenant_in, url_of
from tests.support.database import connect
from tests.support.driver import Driver
from tests.support.grpc_driver import GrpcDriver
from tests.support.http_driver import HttpDriver
from tests.support.running_service import RunningService
from tests.support.stream_client import Stream
from tests.support.tenant import event, make_tenant, snapshot
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

STORED = "SELECT 1 FROM events, workers, snapshot_cards, idempotency_keys, producers LIMIT 1"


async def test_what_an_organization_sends_is_in_the_tables_of_its_cell(database_url: str) -> None:
    cell = await add_cell(database_url, "west")
    west, home = await make_tenant_in(cell, database_url), await make_tenant(database_url)
    with RunningService(database_url) as service:
        grpc = GrpcDriver(service.addresses.grpc)
        drivers: list[Driver] = [HttpDriver(service.addresses.http), grpc]
        for driver in drivers:
            reply = await driver.ingest(west.key, [event(), event(eventType="no.such")], "key")
            assert (len(reply.accepted), reply.codes) == (1, ["forbidden_event_type"])
            assert reply.replayed == (driver is grpc), "the key is one over both protocols"
            assert (await driver.snapshot(west.key, snapshot())).code is None
        stream = Stream(grpc.channel, west.key)
        assert await stream.open("producer") == 0
        await stream.send(sequence=1)
        assert (await stream.ack()).accepted == 1
        await stream.close()
        for driver in drivers:
            await driver.close()
    # Its statistics are written by the end at the latest.
    for tenant, count in ((west, 1), (home, 0)):
        rows = await tenant.rows("SELECT events FROM refusals")
        assert rows == [{"events": 1}] * count
        assert len(await tenant.rows(STORED)) == count
    assert len(await west.events()) == 2
    assert await west.used() == 4


async def test_months_are_made_and_dropped_in_every_cell(database_url: str) -> None:
    cell = await add_cell(database_url, "west")
    now = datetime.now(UTC)
    now_us = from_datetime(now)
    long_ago_us = from_datetime(now - timedelta(days=100))
    async with await connect(url_of(cell, database_url)) as db:
        await partitions.ensure_partitions(db, long_ago_us)
        await db.execute(
            sql.SQL("DROP TABLE {}").format(sql.Identifier(partitions.name_at(now_us)))
        )
        with RunningService(database_url, event_retention_months=1):

            async def are_right() -> bool:
                months = await partitions._existing(db)
                return (
                    partitions.name_at(now_us) in months
                    and partitions.name_at(long_ago_us) not in months
                )

            await eventually(are_right, "this month is made, and the old one is dropped")
