"""Streams of two services whose rates are counted together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest
from grpc import StatusCode
from pydantic import SecretStr

from core.access import shared_rates
from tests.grpc_api.conftest import Connect, OpenStream
from tests.support.redis_server import NEEDS_REDIS, redis_server
from tests.support.running_service import Addresses, RunningService
from tests.support.stream_client import End, Stream
from tests.support.tenant import make_tenant
from tests.support.waiting import WAIT_SECONDS

pytestmark = [pytest.mark.anyio, NEEDS_REDIS]

LIMIT = 20  # batches a second
BATCHES = 30


@pytest.fixture
def services(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Addresses]]:
    # On a busy machine the store is slow; a service that takes it for away counts alone.
    monkeypatch.setattr(shared_rates, "MAX_WAIT_SECONDS", WAIT_SECONDS)
    with redis_server() as store:
        url = SecretStr(store.url)
        with (
            RunningService(database_url, rate_store=url) as one,
            RunningService(database_url, rate_store=url) as other,
        ):
            yield [one.addresses, other.addresses]


async def test_a_rate_limit_paces_streams_at_two_services_together(
    services: list[Addresses], connect: Connect, stream: OpenStream, database_url: str
) -> None:
    tenant = await make_tenant(database_url, key_requests_per_second=LIMIT)

    async def write(one: Stream) -> End:
        for _ in range(BATCHES - 1):
            await one.send()
        await one.done_writing()
        return await one.end()

    streams = [stream(tenant.key, connect(addresses)) for addresses in services]
    started = time.monotonic()
    for one in streams:  # an opening is not paced
        await one.send()
        await one.read_opened()
    ends = await asyncio.gather(*map(write, streams))
    seconds = time.monotonic() - started
    assert [(end.status, len(end.acks)) for end in ends] == [(StatusCode.OK, BATCHES)] * 2
    # A token for each opening and each batch, of which a full bucket was there.
    assert seconds > 0.9 * (2 * (BATCHES + 1) - LIMIT) / LIMIT
