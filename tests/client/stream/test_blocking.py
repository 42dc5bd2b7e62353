"""The producer of programs without asyncio.

Its calls are made in threads, so that the tests' own event loop goes on.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.client.stream.conftest import each_once, numbered, producer_for, stored_numbers
from tests.client.stream.scripted_server import StartScripted
from tests.support.running_service import Addresses
from tests.support.tcp_proxy import TcpProxy
from tests.support.tenant import Tenant, event
from tests.support.waiting import eventually
from wepeople_ingest_client import BlockingStreamProducer, ProducerError

pytestmark = pytest.mark.anyio


def blocking(tenant: Tenant, target: str, **options: Any) -> BlockingStreamProducer:
    return BlockingStreamProducer(producer_for(tenant, target, **options))


def threads() -> int:
    return sum(thread.name == "stream-producer" for thread in threading.enumerate())


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT interrupts the main thread, as in a program without asyncio."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


async def test_every_event_is_stored_once_whatever_becomes_of_connections(
    server: Addresses, tenant: Tenant
) -> None:
    async with TcpProxy(server.grpc) as proxy:
        producer = blocking(tenant, proxy.address, producer_id="blocking", max_batch_events=10)

        def send(count: int) -> None:
            for _ in range(count):
                producer.send(numbered(producer.metrics.sent))
            producer.flush()

        await asyncio.to_thread(producer.start)
        for _ in range(3):
            await asyncio.to_thread(send, 50)
            proxy.cut()
        last = [numbered(150), numbered(151)]
        assert await asyncio.to_thread(producer.send_batch, last) == 16
        await asyncio.to_thread(producer.close)
    assert producer.metrics.reconnects >= 2
    assert await stored_numbers(tenant) == each_once(152)
    assert not threads()
    with blocking(tenant, server.grpc, producer_id="blocking") as again:
        resumed = (again.resumed_sequence, again.resumed_accepted, again.resumed_rejected)
    assert (resumed, again.resumed_events) == ((16, 152, 0), 152)


async def test_threads_may_share_it(server: Addresses, tenant: Tenant) -> None:
    producer = blocking(tenant, server.grpc)
    await asyncio.to_thread(producer.start)

    def send(first: int) -> None:
        for n in range(first, first + 25):
            producer.send(numbered(n))

    await asyncio.gather(*(asyncio.to_thread(send, 25 * k) for k in range(4)))
    await asyncio.to_thread(producer.close)
    assert await stored_numbers(tenant) == each_once(100)


async def test_the_callback_gets_the_rejected(server: Addresses, tenant: Tenant) -> None:
    rejected: list[tuple[int, str]] = []
    producer = blocking(
        tenant, server.grpc, on_rejected=lambda n, _event, code, _why: rejected.append((n, code))
    )
    with producer:
        producer.send(event())
        producer.send(event(actor=...))
    assert rejected == [(2, "missing_actor")]


async def test_a_failure_that_stays_is_raised_by_every_call(
    server: Addresses, tenant: Tenant
) -> None:
    producer = blocking(tenant, server.grpc)

    def send_for_ever() -> None:
        while True:
            producer.send(event())
            producer.flush()

    await asyncio.to_thread(producer.start)
    await tenant.revoke()
    for call in (send_for_ever, producer.close, producer.close):
        with pytest.raises(ProducerError, match="KEY_REVOKED"):
            await asyncio.to_thread(call)
    producer.abort()
    assert not threads()


async def test_a_start_that_fails_leaves_no_thread(server: Addresses, tenant: Tenant) -> None:
    producer = BlockingStreamProducer(producer_for(tenant, "127.0.0.1:1", give_up_after_seconds=0))
    with pytest.raises(ProducerError):
        await asyncio.to_thread(producer.start)
    assert not threads()
    with pytest.raises(RuntimeError, match="once"):
        producer.start()


async def test_before_and_after_it_runs_nothing_is_taken(server: Addresses, tenant: Tenant) -> None:
    producer = blocking(tenant, server.grpc)
    calls: list[Callable[[], object]] = [
        lambda: producer.send(event()),
        lambda: producer.send_batch([event()]),
        producer.flush,
    ]
    for call in calls:
        with pytest.raises(RuntimeError, match="not open"):
            call()
    with producer:
        producer.send(event())
    for call in calls:
        with pytest.raises(RuntimeError, match="not open"):
            call()
    producer.close()


async def test_an_end_before_the_start_ends_nothing(server: Addresses, tenant: Tenant) -> None:
    producer = blocking(tenant, server.grpc)
    producer.close()
    producer.abort()
    with producer:
        producer.send(event())
    assert producer.metrics.accepted == 1


@pytest.mark.parametrize("call", ["flush", "close", "abort"])
async def test_a_callback_that_calls_the_producer_is_refused(
    server: Addresses, tenant: Tenant, call: str
) -> None:
    def on_rejected(*_: object) -> None:
        getattr(producer, call)()

    producer = blocking(tenant, server.grpc, on_rejected=on_rejected)
    await asyncio.to_thread(producer.start)
    await asyncio.to_thread(producer.send, event(actor=...))
    with pytest.raises(RuntimeError, match="on_rejected cannot call"):
        await asyncio.to_thread(producer.flush)
    producer.abort()
    assert not threads()


async def test_a_close_during_an_abort_tells_that_acks_are_missing(
    scripted: StartScripted, tenant: Tenant
) -> None:
    silent, address = await scripted()
    silent.acking.clear()
    producer = blocking(tenant, address)
    await asyncio.to_thread(producer.start)
    await asyncio.to_thread(producer.send, event())
    waiting = asyncio.create_task(asyncio.to_thread(producer.abort, 0.5))
    ends = [asyncio.create_task(asyncio.to_thread(producer.close)) for _ in range(20)]
    for end in ends:
        with pytest.raises(RuntimeError, match="before its last ack"):
            await end
    await waiting


async def test_a_forked_process_is_refused(server: Addresses, tenant: Tenant) -> None:
    producer = blocking(tenant, server.grpc)
    with producer:
        child = os.fork()
        if not child:
            calls: list[Callable[[], object]] = [
                lambda: producer.send(event()),
                producer.flush,
                producer.close,
            ]
            refused = sum(is_refused(call) for call in calls)
            producer.abort()
            os._exit(refused)
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        producer.send(event())
    assert os.waitstatus_to_exitcode(status) == 3
    assert producer.metrics.accepted == 1


def is_refused(call: Callable[[], object]) -> bool:
    try:
        call()
    except RuntimeError as error:
        return "the process that has started it" in str(error)
    return False


async def test_an_abort_wakes_a_close_that_waits_for_acks(
    scripted: StartScripted, tenant: Tenant
) -> None:
    silent, address = await scripted()
    silent.acking.clear()
    producer = blocking(tenant, address)
    await asyncio.to_thread(producer.start)
    await asyncio.to_thread(producer.send, event())
    closing = asyncio.create_task(asyncio.to_thread(producer.close))
    await eventually(lambda: bool(silent.batches), "the batch arrives")
    await asyncio.to_thread(producer.abort)
    with pytest.raises(RuntimeError, match="before its last ack"):
        await closing
    with pytest.raises(RuntimeError, match="before its last ack"):
        producer.close()
    assert not threads()


async def test_an_interrupted_call_is_cancelled(
    scripted: StartScripted, tenant: Tenant, interruptible: None
) -> None:
    silent, address = await scripted()
    silent.acking.clear()
    producer = blocking(tenant, address, max_buffered_events=1)
    await asyncio.to_thread(producer.start)
    await asyncio.to_thread(producer.send, numbered(0))
    main = threading.main_thread().ident
    assert main is not None
    interrupt = threading.Timer(0.3, signal.pthread_kill, (main, signal.SIGINT))
    interrupt.start()
    with pytest.raises(KeyboardInterrupt):
        producer.send(numbered(1))
    producer.abort()
    assert producer.metrics.sent == 1
