"""Streams that fail, restart, grow old or are taken over: nothing is lost or sent twice."""

from __future__ import annotations

import asyncio
import random

import grpc
import pytest

from tests.client.stream.conftest import each_once, numbered, producer_for, stored_numbers
from tests.client.stream.scripted_server import StartScripted
from tests.support.ports import free_port
from tests.support.running_service import Addresses, RunningService
from tests.support.tcp_proxy import TcpProxy
from tests.support.tenant import Tenant, event, make_tenant
from tests.support.waiting import eventually
from wepeople_ingest_client import ProducerError, StreamProducer

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("seed", range(2))
async def test_a_network_that_keeps_failing_loses_and_doubles_nothing(
    server: Addresses, tenant: Tenant, seed: int
) -> None:
    chance = random.Random(seed)
    async with TcpProxy(server.grpc, lambda: chance.choice([2_500, 9_000, 20_000])) as proxy:
        options = {"max_batch_events": 20, "max_buffered_events": 400}
        async with producer_for(tenant, proxy.address, **options) as producer:
            for n in range(1_000):
                await producer.send(numbered(n))
    assert await stored_numbers(tenant) == each_once(1_000)
    metrics = producer.metrics
    assert metrics.reconnects > 3
    assert metrics.acked == metrics.sent == 1_000
    assert metrics.last_sequence >= 50


async def test_acks_that_were_lost_are_learnt_when_the_stream_is_opened_again(
    server: Addresses, tenant: Tenant
) -> None:
    async with (
        TcpProxy(server.grpc) as proxy,
        producer_for(tenant, proxy.address, max_batch_events=10) as producer,
    ):
        with proxy.holding_answers():
            for n in range(100):
                await producer.send(numbered(n))
            for _ in range(10):
                await producer.send(event(eventType="not.allowed"))
            while (await _judged(tenant)) < 110:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            assert producer.metrics.acked == 0
            proxy.cut()
    assert await stored_numbers(tenant) == each_once(100)
    assert (producer.metrics.duplicate, producer.metrics.accepted) == (110, 0)
    assert (producer.metrics.duplicate_rejected, producer.metrics.rejected) == (10, 0)
    assert (producer.metrics.acked, producer.metrics.reconnects) == (110, 1)


async def _judged(tenant: Tenant) -> int:
    rows = await tenant.rows(
        "SELECT accepted + rejected AS judged FROM producers WHERE organization_id = %s",
        tenant.organization.id,
    )
    return sum(int(row["judged"]) for row in rows)


async def test_a_service_that_restarts_is_waited_for(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    target = f"127.0.0.1:{free_port()}"
    service = RunningService(database_url, grpc=target)
    service.start()
    options = {"max_batch_events": 20, "max_buffered_events": 200}

    def restart() -> None:
        nonlocal service
        service.stop()
        service = RunningService(database_url, grpc=target)
        service.start()

    restarts: list[asyncio.Task[None]] = []
    try:
        async with producer_for(tenant, target, **options) as producer:
            for n in range(3_000):
                if n in (1_000, 2_000):
                    await asyncio.gather(*restarts)
                    restarts = [asyncio.create_task(asyncio.to_thread(restart))]
                await producer.send(numbered(n))
            await asyncio.gather(*restarts)
        assert producer.metrics.reconnects >= 2
    finally:
        await asyncio.to_thread(service.stop)
    assert await stored_numbers(tenant) == each_once(3_000)


async def test_streams_that_grow_old_are_replaced(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    with RunningService(database_url, stream_max_seconds=0.15) as service:
        async with (
            producer_for(tenant, service.addresses.grpc, max_batch_events=5) as producer,
            asyncio.timeout(20),
        ):
            sent = 0
            while producer.metrics.reconnects < 3:
                await producer.send(numbered(sent))
                sent += 1
                await asyncio.sleep(0.003)
    assert await stored_numbers(tenant) == each_once(sent)


async def test_a_second_producer_of_the_same_id_ends_the_first(
    server: Addresses, tenant: Tenant
) -> None:
    for attempt in range(5):
        producer_id = f"contested-{attempt}"
        first = producer_for(tenant, server.grpc, producer_id=producer_id, max_batch_events=1)
        await first.start()

        async def hurry(first: StreamProducer = first) -> None:
            while True:  # the more it writes, the more often grpc hides why the stream ended
                await first.send(numbered(0))

        def is_hurrying(first: StreamProducer = first) -> bool:
            return first.metrics.acked >= 10

        hurrying = asyncio.create_task(hurry())
        await eventually(is_hurrying, "the sender hurries")
        async with producer_for(tenant, server.grpc, producer_id=producer_id) as second:
            await second.send(numbered(1))
            try:
                async with asyncio.timeout(20):
                    with pytest.raises(ProducerError) as caught:
                        await hurrying
            finally:
                await first.abort()
            assert caught.value.code is grpc.StatusCode.ABORTED
            assert caught.value.reason == "PRODUCER_TAKEN_OVER"
            with pytest.raises(ProducerError):
                await first.flush()
        assert second.metrics.reconnects == 0


async def test_a_revoked_key_ends_the_producer(server: Addresses, tenant: Tenant) -> None:
    producer = producer_for(tenant, server.grpc)
    await producer.start()
    await producer.send(numbered(0))
    await producer.flush()
    await tenant.revoke()

    async def go_on() -> None:
        while True:
            await producer.send(numbered(1))
            await asyncio.sleep(0.01)

    with pytest.raises(ProducerError) as caught:
        await asyncio.wait_for(go_on(), 20)
    assert (caught.value.code, caught.value.reason) == (
        grpc.StatusCode.UNAUTHENTICATED,
        "KEY_REVOKED",
    )
    for method in (producer.flush, producer.close):
        with pytest.raises(ProducerError):
            await method()


async def test_the_window_of_the_server_is_respected(scripted: StartScripted) -> None:
    server, target = await scripted()
    server.max_in_flight = 2
    server.acking.clear()
    async with StreamProducer(target, "key", "me", max_batch_events=1) as producer:
        for _ in range(6):
            await producer.send(event())
        await eventually(lambda: producer.metrics.in_flight_batches == 2, "2 batches are in flight")
        await asyncio.sleep(0.1)
        assert producer.metrics.in_flight_batches == 2
        server.acking.set()
    assert server.batches == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("last_sequence", [0, 9])
async def test_a_server_with_another_last_sequence_ends_the_producer(
    scripted: StartScripted, last_sequence: int
) -> None:
    server, target = await scripted()
    async with TcpProxy(target) as proxy:
        producer = StreamProducer(proxy.address, "key", "me")
        await producer.start()
        await producer.send(event())
        await producer.flush()
        server.last_sequence = last_sequence
        proxy.cut()
        with pytest.raises(ProducerError, match="SEQUENCE_LOST"):
            await asyncio.wait_for(_fails(producer), 20)
        await producer.abort()


async def _fails(producer: StreamProducer) -> None:
    while True:
        await producer.flush()
        await asyncio.sleep(0.01)
