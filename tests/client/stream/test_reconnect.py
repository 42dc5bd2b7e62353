"""The wait before another stream, and the moment to give up."""

from __future__ import annotations

import time

import grpc
import pytest

from tests.client.stream.conftest import (
    producer_for,
)
from tests.client.stream.scripted_server import StartScripted, status
from tests.support.tcp_proxy import TcpProxy
from tests.support.tenant import Tenant, event
from wepeople_ingest_client import ProducerError, StreamProducer

pytestmark = pytest.mark.anyio


async def test_a_server_that_is_not_there_is_given_up(tenant: Tenant) -> None:
    async with TcpProxy("127.0.0.1:1") as proxy:
        producer = producer_for(tenant, proxy.address, give_up_after_seconds=0.5)
        began = time.monotonic()
        with pytest.raises(ProducerError, match=r"given up after 0\.5 s") as caught:
            await producer.start()
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    assert proxy.connections >= 2
    assert 0.1 < time.monotonic() - began < 10


@pytest.mark.parametrize("name", ["UNAVAILABLE", "RESOURCE_EXHAUSTED"])
async def test_retry_info_is_honoured(scripted: StartScripted, name: str) -> None:
    server, target = await scripted(status(name, retry_seconds=0.6))
    async with StreamProducer(target, "key", "me") as producer:
        await producer.send(event())
    first, second = server.opened
    assert 0.6 <= second - first < 5
