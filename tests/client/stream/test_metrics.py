"""The figures of a producer."""

from __future__ import annotations

import pytest

from tests.client.stream.conftest import (
    each_once,
    numbered,
    producer_for,
    stored_numbers,
)
from tests.support.running_service import Addresses
from tests.support.tenant import Tenant

pytestmark = pytest.mark.anyio


async def test_everything_sent_is_stored_and_counted_when_the_block_ends(
    server: Addresses, tenant: Tenant
) -> None:
    async with producer_for(tenant, server.grpc, max_batch_events=50) as producer:
        numbers = [await producer.send(numbered(n)) for n in range(220)]
    assert numbers == list(range(1, 221))
    assert await stored_numbers(tenant) == each_once(220)
    metrics = producer.metrics
    assert (metrics.sent, metrics.acked, metrics.accepted) == (220, 220, 220)
    assert (metrics.rejected, metrics.duplicate, metrics.buffered) == (0, 0, 0)
    assert (metrics.in_flight_batches, metrics.reconnects) == (0, 0)
    assert (metrics.last_sequence, metrics.quota_left) == (5, None)
