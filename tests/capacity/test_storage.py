"""An event takes about as many bytes as docs/scale.md reckons with."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from core.postgres.migrate import migrate
from tests.capacity import nodes, storage
from tests.support.database import connect
from tests.support.databases import new_database
from tests.support.postgres_server import postgres_server

pytestmark = pytest.mark.anyio

# Few, so that the pages that are half full at the ends of the index weigh more.
EVENTS = 20_000
ORGANIZATIONS = 10


@pytest.fixture(scope="module")
def own_server() -> Iterator[str]:
    """A server to whose log nobody else writes."""
    with postgres_server() as server, new_database(server.conninfo, "wepeople") as url:
        asyncio.run(migrate(url))
        yield url


async def test_a_stored_event_takes_the_bytes_that_the_page_reckons_with(own_server: str) -> None:
    async with await connect(own_server) as db:
        size = await storage.store(db, ORGANIZATIONS, 0, EVENTS)
    assert size.table + size.indexes == pytest.approx(nodes.STORED_BYTES, rel=0.1)
    assert size.wal == pytest.approx(nodes.BATCHES.wal_bytes, rel=0.2)


async def test_metadata_is_what_makes_events_large(own_server: str) -> None:
    async with await connect(own_server) as db:
        plain = await storage.store(db, ORGANIZATIONS, 0, EVENTS)
        talkative = await storage.store(db, ORGANIZATIONS, 1_000, EVENTS)
    assert talkative.indexes == pytest.approx(plain.indexes, rel=0.05)
    assert talkative.table - plain.table >= 900


@pytest.mark.parametrize("connections", [1, 64])
async def test_a_request_of_one_event_logs_several_times_what_an_event_of_a_batch_does(
    own_server: str, connections: int
) -> None:
    logged = await storage.log_of_requests(own_server, 500, connections)
    assert 2 * nodes.BATCHES.wal_bytes < logged < 2 * nodes.SHARED.wal_bytes
