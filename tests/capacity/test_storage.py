"""An event takes about as many bytes as docs/scale.md reckons with."""

from __future__ import annotations

import pytest

from tests.capacity import nodes, storage
from tests.support.database import connect

pytestmark = pytest.mark.anyio

# Few, so that the pages that are half full at the ends of the index weigh more.
EVENTS = 20_000
ORGANIZATIONS = 10


async def test_a_stored_event_takes_the_bytes_that_the_page_reckons_with(database_url: str) -> None:
    async with await connect(database_url) as db:
        size = await storage.store(db, ORGANIZATIONS, 0, EVENTS)
    assert size.table + size.indexes == pytest.approx(nodes.STORED_BYTES, rel=0.1)
    assert size.wal == pytest.approx(nodes.BATCHES.wal_bytes, rel=0.2)


async def test_metadata_is_what_makes_events_large(database_url: str) -> None:
    async with await connect(database_url) as db:
        plain = await storage.store(db, ORGANIZATIONS, 0, EVENTS)
        talkative = await storage.store(db, ORGANIZATIONS, 1_000, EVENTS)
    assert talkative.indexes == pytest.approx(plain.indexes, rel=0.05)
    assert talkative.table - plain.table >= 900


@pytest.mark.parametrize("connections", [1, 64])
async def test_a_request_of_one_event_logs_several_times_what_an_event_of_a_batch_does(
    database_url: str, connections: int
) -> None:
    logged = await storage.log_of_requests(database_url, 500, connections)
    assert 2 * nodes.BATCHES.wal_bytes < logged < 1.5 * nodes.SHARED.wal_bytes
