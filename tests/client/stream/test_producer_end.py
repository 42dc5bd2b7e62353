"""Closing, aborting and cancelling a producer."""

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
from tests.client.stream.scripted_server import StartScripted, status
from tests.support.running_service import Addresses
from tests.support.tcp_proxy import TcpProxy
from tests.support.tenant import Tenant, event
from tests.support.waiting import eventually
from wepeople_ingest_client import ProducerError, StreamProducer

pytestmark = pytest.mark.anyio


async def test_close_waits_for_the_last_ack(server: Addresses, tenant: Tenant) -> None:
    async with TcpProxy(server.grpc) as proxy:
        producer = producer_for(tenant, proxy.address)
        await producer.start()
        with proxy.holding_answers():
            await producer.send(numbered(0))
            closing = await still_waiting(producer.close())
            with pytest.raises(RuntimeError, match="not open"):
                await producer.send(numbered(1))
        await closing
        assert producer.metrics.acked == 1
        await producer.close()


async def test_every_close_waits_for_the_same_last_ack(server: Addresses, tenant: Tenant) -> None:
    async with TcpProxy(server.grpc) as proxy:
        producer = producer_for(tenant, proxy.address)
        await producer.start()
        with proxy.holding_answers():
            await producer.send(numbered(0))
            first = await still_waiting(producer.close())
            second = await still_waiting(producer.close())
        await asyncio.gather(first, second)
        assert producer.metrics.acked == 1
    await producer.close()
    assert await stored_numbers(tenant) == each_once(1)


@pytest.mark.parametrize("how", ["cancelled", "aborted"])
async def test_after_an_end_without_the_last_ack_no_close_succeeds(
    server: Addresses, tenant: Tenant, how: str
) -> None:
    async with TcpProxy(server.grpc) as proxy:
        producer = producer_for(tenant, proxy.address)
        await producer.start()
        with proxy.holding_answers():
            await producer.send(numbered(0))
            first = await still_waiting(producer.close())
            second = await still_waiting(producer.close())
            if how == "cancelled":
                first.cancel()
            else:
                await producer.abort()
            with pytest.raises(asyncio.CancelledError if how == "cancelled" else RuntimeError):
                await first
            with pytest.raises(RuntimeError, match="before its last ack"):
                await second
    with pytest.raises(RuntimeError, match="before its last ack"):
        await producer.close()
    for method in (producer.flush, lambda: producer.send(numbered(1))):
        with pytest.raises(RuntimeError, match="not open"):
            await method()


async def test_a_close_that_failed_fails_again(scripted: StartScripted) -> None:
    _, target = await scripted(status("PERMISSION_DENIED"))
    producer = StreamProducer(target, "key", "me")
    await producer.start()
    await producer.send(event())
    methods = (producer.close, producer.close, producer.flush, lambda: producer.send(event()))
    for method in methods:
        with pytest.raises(ProducerError, match="as told"):
            await method()
    await producer.abort()


async def test_an_end_with_everything_acked_is_a_good_one(
    server: Addresses, tenant: Tenant
) -> None:
    producer = producer_for(tenant, server.grpc)
    await producer.start()
    await producer.send(numbered(0))
    await producer.flush()
    await producer.abort()
    await producer.close()


async def test_an_end_can_wait_for_what_is_in_flight_only(
    server: Addresses, tenant: Tenant
) -> None:
    async with TcpProxy(server.grpc) as proxy:
        producer = producer_for(tenant, proxy.address, max_batch_events=1, max_in_flight=3)
        await producer.start()
        with proxy.holding_answers():
            for n in range(10):
                await producer.send(numbered(n))
            await eventually(
                lambda: producer.metrics.in_flight_batches == 3, "3 batches are in flight"
            )
            aborting = await still_waiting(producer.abort(10))
        await aborting
    assert producer.metrics.acked == 3
    assert await stored_numbers(tenant) == each_once(3)


async def test_a_block_that_is_cancelled_does_not_wait(server: Addresses, tenant: Tenant) -> None:
    async with TcpProxy(server.grpc) as proxy:

        async def work() -> None:
            async with producer_for(tenant, proxy.address) as producer:
                with proxy.holding_answers():
                    await producer.send(numbered(0))
                    await asyncio.sleep(60)

        working = await still_waiting(work())
        working.cancel()
        async with asyncio.timeout(10):
            await asyncio.gather(working, return_exceptions=True)
