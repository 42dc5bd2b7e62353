"""Batches of a producer: how they are filled, cut, reported and handed over as one."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from tests.client.stream.conftest import each_once, numbered, producer_for, stored_numbers
from tests.conftest import MakeTenant
from tests.support.running_service import Addresses
from tests.support.tenant import Tenant, event
from tests.support.waiting import eventually
from wepeople_ingest_client import StreamProducer
from wepeople_ingest_client.pb import ingest_pb2 as pb

pytestmark = pytest.mark.anyio


async def test_a_batch_that_is_not_full_goes_after_a_while(
    server: Addresses, tenant: Tenant
) -> None:
    async with producer_for(tenant, server.grpc, max_batch_seconds=0.05) as producer:
        await producer.send(numbered(0))
        assert producer.metrics.acked == 0
        await eventually(lambda: producer.metrics.acked == 1, "a batch is acked")


async def test_nothing_is_taken_before_the_server_has_told_its_last_sequence(
    server: Addresses, tenant: Tenant
) -> None:
    for number in range(3):
        producer = producer_for(tenant, server.grpc, producer_id="one", max_batch_seconds=0)
        starting = asyncio.create_task(producer.start())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="not open"):
            await producer.send(numbered(100))
        await starting
        await producer.send(numbered(number))
        await producer.close()
    assert await stored_numbers(tenant) == each_once(3)


async def test_flush_sends_at_once_and_waits_for_the_acks(
    server: Addresses, tenant: Tenant
) -> None:
    async with producer_for(tenant, server.grpc, max_batch_seconds=60) as producer:
        for n in range(7):
            await producer.send(numbered(n))
        await producer.flush()
        assert producer.metrics.acked == 7
        await producer.flush()
        assert producer.metrics.last_sequence == 1


async def test_batches_are_split_by_bytes_too(server: Addresses, tenant: Tenant) -> None:
    async with producer_for(tenant, server.grpc, max_batch_seconds=60) as producer:
        for n in range(150):
            await producer.send(event(metadata={"n": n, "filling": "x" * 16_000}))
    assert producer.metrics.accepted == 150
    assert producer.metrics.last_sequence == 3


async def test_rejected_events_are_reported_by_their_numbers(
    server: Addresses, tenant: Tenant
) -> None:
    reported: list[tuple[int, str, str, str]] = []

    def on_rejected(number: int, event: pb.IngestEvent, code: str, message: str) -> None:
        reported.append((number, event.event_type, code, message))

    wrong = {
        4: event(eventType="not.allowed"),
        10: event(actor=...),
        11: event(duration=-1, category="x"),
    }
    options = {"max_batch_events": 5, "on_rejected": on_rejected}
    async with producer_for(tenant, server.grpc, **options) as producer:
        for number in range(1, 13):
            await producer.send(wrong.get(number, event()))
    assert [(number, code) for number, _, code, _ in reported] == [
        (4, "forbidden_event_type"),
        (10, "missing_actor"),
        (11, "invalid_body"),
    ]
    assert reported[0][1] == "not.allowed"
    assert reported[2][3].startswith("category: must be one of")
    assert "; duration: must be at least 0" in reported[2][3]
    assert (producer.metrics.accepted, producer.metrics.rejected) == (9, 3)


async def test_an_exception_of_the_callback_ends_the_producer(
    server: Addresses, tenant: Tenant
) -> None:
    def on_rejected(*_: object) -> None:
        raise LookupError("no place for it")

    producer = producer_for(tenant, server.grpc, on_rejected=on_rejected)
    await producer.start()
    await producer.send(event(actor=...))
    with pytest.raises(LookupError):
        await producer.close()


async def test_an_exhausted_quota_is_reported_event_by_event(
    server: Addresses, new_tenant: MakeTenant
) -> None:
    tenant = await new_tenant(monthly_quota=25)
    codes: list[tuple[int, str]] = []
    async with producer_for(
        tenant,
        server.grpc,
        max_batch_events=10,
        on_rejected=lambda number, _event, code, _message: codes.append((number, code)),
    ) as producer:
        for n in range(10):
            await producer.send(numbered(n))
        await producer.flush()
        assert producer.metrics.quota_left == 15
        for n in range(20):
            await producer.send(numbered(n))
    assert producer.metrics.quota_left == 0
    assert codes == [(number, "quota_exceeded") for number in range(26, 31)]


async def test_send_batch_resumes_across_programs(server: Addresses, tenant: Tenant) -> None:
    batches = [[numbered(10 * k + n) for n in range(10)] for k in range(6)]
    batches[1][3] = event(eventType="not.allowed")
    producer = producer_for(tenant, server.grpc, producer_id="exporter")
    await producer.start()
    assert (producer.resumed_sequence, producer.resumed_events) == (0, 0)
    assert [await producer.send_batch(batch) for batch in batches[:3]] == [1, 2, 3]
    await producer.flush()
    await producer.abort()  # as a crash does

    async with producer_for(tenant, server.grpc, producer_id="exporter") as producer:
        assert producer.resumed_sequence == 3
        assert (producer.resumed_accepted, producer.resumed_rejected) == (29, 1)
        # Cut into batches otherwise, as the program has changed meanwhile.
        rest = [one for batch in batches for one in batch][producer.resumed_events :]
        for first in range(0, len(rest), 15):
            await producer.send_batch(rest[first : first + 15])
    assert producer.metrics.last_sequence == 5
    assert await stored_numbers(tenant) == each_once(60) - Counter([13])


async def test_send_batch_refuses_events_that_are_no_batch(
    server: Addresses, tenant: Tenant
) -> None:
    async with producer_for(tenant, server.grpc) as producer:
        with pytest.raises(ValueError, match="1 to 500 events, not 0"):
            await producer.send_batch([])
        with pytest.raises(ValueError, match="1 to 500 events, not 501"):
            await producer.send_batch([event()] * 501)
        with pytest.raises(ValueError, match="bytes"):
            await producer.send_batch([event(metadata={"x": "x" * 16_000})] * 70)
        with pytest.raises(ValueError, match="duration"):
            await producer.send_batch([event(), event(duration="x")])
    assert producer.metrics.sent == 0


async def test_wrong_options_are_refused() -> None:
    for options in (
        {"max_batch_events": 0},
        {"max_batch_events": 501},
        {"max_in_flight": 0},
        {"max_buffered_events": 0},
        {"api_key": "wp\nlive"},
        {"producer_id": ""},
    ):
        given: dict[str, Any] = {"api_key": "key", "producer_id": "me", **options}
        with pytest.raises(ValueError, match=next(iter(options))):
            StreamProducer("127.0.0.1:1", **given)
