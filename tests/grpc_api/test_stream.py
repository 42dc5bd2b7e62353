"""StreamEvents without a producer: acks, their order, quota, rate, and what is no batch."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import grpc as grpc_library
import pytest

from core import ids
from core.ingest import Ingestor
from core.models import Caller
from grpc_api.pb import ingest_pb2 as pb
from tests.conftest import MakeTenant
from tests.grpc_api.conftest import Connect, OpenStream
from tests.support.grpc_driver import GrpcDriver
from tests.support.http_driver import HttpDriver
from tests.support.running_service import Addresses
from tests.support.stream_client import STREAM_EVENTS, batch, flood, opening
from tests.support.tenant import UNKNOWN_KEY, Tenant, event
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

OK = grpc_library.StatusCode.OK
INVALID = grpc_library.StatusCode.INVALID_ARGUMENT


async def test_the_first_answer_is_opened(stream: OpenStream, tenant: Tenant) -> None:
    one = stream(tenant.key)
    await one.send()
    opened = await one.read_opened()
    assert opened.last_sequence == 0
    assert opened.max_in_flight == 32
    request_id = dict(await one.call.initial_metadata())["x-request-id"]
    assert str(request_id).startswith("req_")


async def test_a_stream_of_nothing_is_opened_and_ends(stream: OpenStream, tenant: Tenant) -> None:
    one = stream(tenant.key)
    await one.done_writing()
    end = await one.end()
    assert (end.status, end.acks) == (OK, [])
    assert one.opened is not None
    producer = stream(tenant.key)
    assert await producer.open("producer-1") == 0
    await producer.done_writing()
    assert (await producer.end()).status is OK


async def test_acks_come_in_order_each_after_its_commit(stream: OpenStream, tenant: Tenant) -> None:
    one = stream(tenant.key)
    for number in range(5):
        await one.send(*[event(f"user-{number}")] * (number + 1))
        ack = await one.ack()
        assert (ack.accepted, ack.sequence, ack.duplicate, ack.replayed) == (
            number + 1,
            0,
            False,
            False,
        )
        # Read over another connection: it is committed.
        assert len(await tenant.events()) == (number + 1) * (number + 2) // 2
    await one.done_writing()
    assert (await one.end()).status is OK


async def test_many_in_flight_are_acked_in_order(stream: OpenStream, tenant: Tenant) -> None:
    one = stream(tenant.key)
    sizes = [1, 500, 2, 100, 3] * 10

    async def send() -> None:
        for size in sizes:
            await one.send(*[event()] * size)
        await one.done_writing()

    sending = asyncio.create_task(send())
    end = await one.end()
    await sending
    assert end.status is OK
    assert [ack.accepted for ack in end.acks] == sizes
    request_ids = [ack.request_id for ack in end.acks]
    assert len(set(request_ids)) == len(sizes)
    assert [ids.parse("req_", one) for one in request_ids] != [None] * len(sizes)
    assert len(await tenant.events()) == sum(sizes)


async def test_half_closing_acks_everything(stream: OpenStream, tenant: Tenant) -> None:
    one = stream(tenant.key)
    for _ in range(20):
        await one.send()
    await one.done_writing()
    end = await one.end()
    assert (end.status, len(end.acks)) == (OK, 20)


async def test_rejected_events_are_in_the_ack(stream: OpenStream, tenant: Tenant) -> None:
    one = stream(tenant.key)
    await one.send(event(), event(duration=-1), event(eventType="not.allowed"))
    await one.send(event(category="?"))
    first, second = await one.ack(), await one.ack()
    assert first.accepted == 1
    assert [(one.index, one.code) for one in first.rejected] == [
        (1, "invalid_body"),
        (2, "forbidden_event_type"),
    ]
    assert first.rejected[0].message == "events[1].duration: must be at least 0"
    assert (second.accepted, len(second.rejected)) == (0, 1)
    assert not first.HasField("quota_left")
    assert len(await tenant.events()) == 1


@pytest.mark.parametrize("wrong", ["none", "501", "two openings", "empty", "sequence"])
async def test_an_invalid_batch_ends_the_stream_after_the_acks_before_it(
    wrong: str, stream: OpenStream, tenant: Tenant
) -> None:
    messages = {
        "none": pb.StreamEventsRequest(batch=pb.StreamBatch()),
        "501": batch([event()] * 501),
        "two openings": opening("producer-1"),
        "empty": pb.StreamEventsRequest(),
        "sequence": batch(sequence=1),
    }
    one = stream(tenant.key)
    for _ in range(3):
        await one.send()
    await one.write(messages[wrong])
    end = await one.end()
    assert end.status is INVALID
    assert end.reason == ("BATCH_TOO_LARGE" if wrong == "501" else "INVALID_BODY")
    assert len(end.acks) == 3
    assert len(await tenant.events()) == 3


async def test_an_empty_first_message_is_refused(stream: OpenStream, tenant: Tenant) -> None:
    one = stream(tenant.key)
    await one.write(pb.StreamEventsRequest())
    end = await one.end()
    assert (end.status, end.reason) == (INVALID, "INVALID_BODY")


@pytest.mark.parametrize(
    "data", [b"\xff" * 20, bytes(1_048_577), b"\x12\x07\x12\x05\x0a\x03\xff!!"]
)
async def test_bytes_that_are_no_message_end_the_stream_with_details(
    data: bytes, grpc: GrpcDriver, tenant: Tenant
) -> None:
    method: Any = grpc.channel.stream_stream(
        STREAM_EVENTS, response_deserializer=pb.StreamEventsResponse.FromString
    )
    call = method(metadata=(("authorization", f"Bearer {tenant.key}"),))
    await call.write(batch().SerializeToString())
    await call.write(data)
    responses = [await call.read(), await call.read()]
    assert [response.WhichOneof("message") for response in responses] == ["opened", "ack"]
    with pytest.raises(grpc_library.aio.AioRpcError) as caught:
        await call.read()
    assert caught.value.code() is INVALID
    assert any(name == "grpc-status-details-bin" for name, _ in caught.value.trailing_metadata())


@pytest.mark.parametrize(
    ("key", "reason"), [(None, "MISSING_AUTHORIZATION"), (UNKNOWN_KEY, "INVALID_KEY")]
)
async def test_wrong_credentials_open_nothing(
    key: str | None, reason: str, stream: OpenStream
) -> None:
    one = stream(key)
    end = await one.end()
    assert (end.status, end.reason) == (grpc_library.StatusCode.UNAUTHENTICATED, reason)
    assert one.opened is None


async def test_an_idempotency_key_replays_within_and_across_streams(
    stream: OpenStream, http: HttpDriver, tenant: Tenant
) -> None:
    events = [event(duration=240), event(duration=-1)]
    one = stream(tenant.key)
    await one.send(*events, idempotency_key="key-1")
    await one.send(*events, idempotency_key="key-1")
    await one.send(event(), idempotency_key="key-2")
    first, again, other = await one.ack(), await one.ack(), await one.ack()
    assert (first.replayed, again.replayed, other.replayed) == (False, True, False)
    assert (again.request_id, again.accepted) == (first.request_id, 1)
    assert again.rejected == first.rejected
    later = stream(tenant.key)
    await later.send(*events, idempotency_key="key-1")
    assert (await later.ack()).request_id == first.request_id
    reply = await http.ingest(tenant.key, events, "key-1")
    assert (reply.replayed, reply.request_id) == (True, first.request_id)
    assert len(await tenant.events()) == 2
    await later.send(event(category="code"), idempotency_key="key-1")
    end = await later.end()
    assert (end.status, end.reason) == (INVALID, "INVALID_BODY")
    assert "Idempotency-Key" in end.message


async def test_an_exhausted_quota_rejects_in_the_ack(
    stream: OpenStream, new_tenant: MakeTenant
) -> None:
    tenant = await new_tenant(monthly_quota=10)
    one = stream(tenant.key)
    left = []
    for size in (4, 4, 4, 1):
        await one.send(*[event()] * size)
        ack = await one.ack()
        left.append((ack.accepted, len(ack.rejected), ack.quota_left))
        assert ack.HasField("quota_left")
        assert {rejected.code for rejected in ack.rejected} <= {"quota_exceeded"}
    assert left == [(4, 0, 6), (4, 0, 2), (2, 2, 0), (0, 1, 0)]
    await tenant.update(monthly_quota=20)
    await one.send(event())
    ack = await one.ack()
    assert (ack.accepted, ack.quota_left) == (1, 9)
    assert len(await tenant.events()) == await tenant.used() == 11


async def test_quota_left_is_told_with_every_ack(
    stream: OpenStream, new_tenant: MakeTenant
) -> None:
    tenant = await new_tenant(monthly_quota=10)
    producer = stream(tenant.key)
    await producer.open("producer-1")
    seen = []
    for sequence, events in ((1, [event()] * 3), (1, [event()]), (2, [event(category="?")])):
        await producer.send(*events, sequence=sequence)
        ack = await producer.ack()
        seen.append((ack.accepted, ack.duplicate, ack.quota_left))
    assert seen == [(3, False, 7), (0, True, 7), (0, False, 7)]
    plain = stream(tenant.key)
    for _ in range(2):
        await plain.send(idempotency_key="key-1")
        assert (await plain.ack()).quota_left == 6


async def test_a_rate_limit_paces_the_stream_and_does_not_break_it(
    stream: OpenStream, new_tenant: MakeTenant
) -> None:
    tenant = await new_tenant(key_requests_per_second=20)
    one = stream(tenant.key)
    started = time.monotonic()
    for _ in range(50):
        await one.send()
    await one.done_writing()
    end = await one.end()
    seconds = time.monotonic() - started
    assert (end.status, len(end.acks)) == (OK, 50)
    # A full bucket of 20, then one every 50 ms.
    assert 1.4 < seconds < 5.0


async def test_the_organizations_rate_paces_its_streams_together(
    stream: OpenStream, new_tenant: MakeTenant
) -> None:
    tenant = await new_tenant(requests_per_second=20)
    streams = [stream(tenant.key) for _ in range(4)]
    for one in streams:  # an opening is not paced
        await one.send()
        await one.read_opened()
    started = time.monotonic()
    for one in streams:
        for _ in range(9):
            await one.send()
        await one.done_writing()
    ends = await asyncio.gather(*(one.end() for one in streams))
    seconds = time.monotonic() - started
    assert [len(end.acks) for end in ends] == [10] * 4
    assert 0.9 < seconds < 4.5


async def test_streams_and_http_make_one_worker_of_a_new_person(
    stream: OpenStream, http: HttpDriver, grpc: GrpcDriver, tenant: Tenant
) -> None:
    person = event(actor={"externalId": "new-1", "email": "new@example.com"})
    streams = [stream(tenant.key) for _ in range(6)]
    requests = [http.ingest(tenant.key, [person]) for _ in range(6)]
    requests += [grpc.ingest(tenant.key, [person]) for _ in range(6)]

    async def one_batch(number: int) -> int:
        await streams[number].send(person)
        return int((await streams[number].ack()).accepted)

    accepted = await asyncio.gather(*map(one_batch, range(6)))
    replies = await asyncio.gather(*requests)
    assert list(accepted) == [1] * 6
    assert {reply.code for reply in replies} == {None}
    [worker] = await tenant.workers()
    assert {one["worker_id"] for one in await tenant.events()} == {worker["id"]}


async def test_a_message_over_the_librarys_limit_ends_the_stream_without_details(
    server: Addresses, tenant: Tenant
) -> None:
    large = batch([event(metadata={"text": "x" * 1_310_720})])
    with pytest.raises(grpc_library.RpcError) as caught:
        await asyncio.to_thread(flood, server.grpc, tenant.key, [large])
    assert caught.value.code() is grpc_library.StatusCode.RESOURCE_EXHAUSTED


async def test_an_ack_waits_for_the_turn_of_its_organization(
    stream: OpenStream,
    connect: Connect,
    replica: Addresses,
    tenant: Tenant,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Caller] = []
    turn = threading.Event()  # the replica has a thread of its own

    async def begin_ack(_: Ingestor, caller: Caller) -> None:
        asked.append(caller)
        await asyncio.to_thread(turn.wait)

    monkeypatch.setattr(Ingestor, "begin_ack", begin_ack)
    one = stream(tenant.key, connect(replica))
    await one.send()
    ack = asyncio.create_task(one.ack())
    await eventually(lambda: bool(asked), "the ack is due")
    assert ids.text(ids.ORGANIZATION, asked[0].organization_id) == tenant.organization_id
    assert len(await tenant.events()) == 1
    assert not ack.done()
    turn.set()
    assert (await ack).accepted == 1
