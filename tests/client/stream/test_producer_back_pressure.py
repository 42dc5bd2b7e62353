"""Back-pressure of a producer: its buffer is bounded, and callers wait in order."""

from __future__ import annotations

import asyncio

import pytest

from tests.client.stream.conftest import (
    each_once,
    numbered,
    producer_for,
    still_waiting,
    stored_numbers,
)
from tests.support.running_service import Addresses
from tests.support.tcp_proxy import TcpProxy
from tests.support.tenant import Tenant, event
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio


async def test_a_full_buffer_makes_send_wait(server: Addresses, tenant: Tenant) -> None:
    async with TcpProxy(server.grpc) as proxy:
        options = {"max_batch_events": 10, "max_buffered_events": 100, "max_in_flight": 4}
        async with producer_for(tenant, proxy.address, **options) as producer:
            with proxy.holding_answers():

                async def send_all() -> None:
                    for n in range(500):
                        await producer.send(numbered(n))

                sending = asyncio.create_task(send_all())
                await eventually(
                    lambda: producer.metrics.in_flight_batches == 4, "4 batches are in flight"
                )
                await asyncio.sleep(0.2)
                metrics = producer.metrics
                assert (metrics.sent, metrics.buffered, metrics.in_flight_batches) == (100, 100, 4)
            most = 0
            while not sending.done():
                most = max(most, producer.metrics.buffered)
                await asyncio.sleep(0)
            assert most <= 100
    assert await stored_numbers(tenant) == each_once(500)


async def test_the_buffer_is_bounded_in_bytes(server: Addresses, tenant: Tenant) -> None:
    async with TcpProxy(server.grpc) as proxy:
        options = {"max_batch_events": 10, "max_buffered_bytes": 50_000}
        async with producer_for(tenant, proxy.address, **options) as producer:
            with proxy.holding_answers():

                async def send_all() -> None:
                    for n in range(50):
                        await producer.send(event(metadata={"n": n, "filling": "x" * 10_000}))

                sending = await still_waiting(send_all())
                assert producer.metrics.buffered == 4
            await sending
    assert await stored_numbers(tenant) == each_once(50)


async def test_a_buffer_smaller_than_a_batch_still_moves(server: Addresses, tenant: Tenant) -> None:
    options = {"max_buffered_events": 3, "max_batch_seconds": 60}
    async with producer_for(tenant, server.grpc, **options) as producer:
        for n in range(10):
            await producer.send(numbered(n))
        assert await producer.send_batch([numbered(n) for n in range(10, 20)]) > 3
    assert await stored_numbers(tenant) == each_once(20)


async def test_senders_take_turns(server: Addresses, tenant: Tenant) -> None:
    options = {"max_batch_events": 7, "max_buffered_events": 20}
    async with producer_for(tenant, server.grpc, **options) as producer:
        given = await asyncio.gather(*(producer.send(numbered(n)) for n in range(300)))
    assert given == list(range(1, 301))
    assert await stored_numbers(tenant) == each_once(300)


async def test_cancelling_a_sender_that_waits_takes_nothing(
    server: Addresses, tenant: Tenant
) -> None:
    async with (
        TcpProxy(server.grpc) as proxy,
        producer_for(tenant, proxy.address, max_buffered_events=1) as producer,
    ):
        with proxy.holding_answers():
            await producer.send(numbered(0))
            sending = await still_waiting(producer.send(numbered(99)), 0.1)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        await producer.send(numbered(1))
    assert await stored_numbers(tenant) == each_once(2)
