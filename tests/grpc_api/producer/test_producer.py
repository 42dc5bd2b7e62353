"""StreamProducer against the real service, through a network that fails."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from grpc_api.pb import ingest_pb2 as pb
from grpc_api.producer import ProducerError, StreamProducer
from grpc_api.producer.send_buffer import SendBuffer
from tests.conftest import MakeTenant
from tests.support.running_service import Addresses, RunningService
from tests.support.tcp_proxy import TcpProxy
from tests.support.tenant import Tenant, event, make_tenant

pytestmark = pytest.mark.anyio

_ids = itertools.count(1)


def producer_for(tenant: Tenant, target: str, **options: Any) -> StreamProducer:
    options.setdefault("producer_id", f"producer-{next(_ids)}")
    options.setdefault("give_up_after_seconds", 20)
    return StreamProducer(target, tenant.key, **options)


def numbered(number: int, **members: Any) -> dict[str, Any]:
    return event(metadata={"n": number}, **members)


async def stored_numbers(tenant: Tenant) -> Counter[int]:
    return Counter(json.loads(row["metadata"])["n"] for row in await tenant.events())


def each_once(count: int) -> Counter[int]:
    return Counter(range(count))


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def waits(awaitable: Awaitable[Any], seconds: float = 0.3) -> asyncio.Task[Any]:
    task = asyncio.ensure_future(awaitable)
    await asyncio.sleep(seconds)
    assert not task.done()
    return task


# --- batches and metrics -------------------------------------------------------------------------


async def test_what_was_sent_is_stored_once_the_block_ends(
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


async def test_a_batch_that_is_not_full_goes_after_a_while(
    server: Addresses, tenant: Tenant
) -> None:
    async with producer_for(tenant, server.grpc, max_batch_seconds=0.05) as producer:
        await producer.send(numbered(0))
        assert producer.metrics.acked == 0
        await until(lambda: producer.metrics.acked == 1)


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


async def test_a_message_and_its_json_form_are_the_same_event(
    server: Addresses, tenant: Tenant
) -> None:
    message = pb.IngestEvent(
        event_type="deal.won",
        category="code",
        actor=pb.Actor(email="a@b.example"),
        duration_seconds=3,
        metadata_json=b'{"n": 1.10000000000000000001}',
    )
    message.timestamp.FromJsonString("2026-04-19T12:05:00.25Z")
    async with producer_for(tenant, server.grpc) as producer:
        await producer.send(message)
        await producer.send(
            {
                "eventType": "deal.won",
                "category": "code",
                "actor": {"email": "A@B.example"},
                "duration": 3.0,
                "timestamp": "2026-04-19T14:05:00.25+02:00",
                "metadata": b'{"n": 1.10000000000000000001}',
            }
        )
    one, other = await tenant.events()
    assert one.pop("id") != other.pop("id")
    assert one == other
    assert one["metadata"] == '{"n": 1.10000000000000000001}'


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"duration": "x"}, "duration: must be an integer"),
        ({"duration": 1.5}, "duration: must be a whole number of seconds"),
        ({"duration": 10**30}, "duration: must be at most 86400"),
        ({"timestamp": "yesterday"}, "timestamp: must be an RFC 3339 date-time"),
        ({"actor": {"email": 3}}, "actor.email: must be a string"),
        ({"actor": None}, "actor: must be an object"),
        ({"eventType": "\ud800"}, "must not contain unpaired surrogates"),
        ({"metadata": {"x": float("nan")}}, "metadata: is not JSON"),
        ({"metadata": b"x" * 1_048_576}, "an event has at most"),
    ],
)
async def test_what_no_message_can_say_is_refused_and_nothing_else(
    server: Addresses, tenant: Tenant, members: dict[str, Any], message: str
) -> None:
    async with producer_for(tenant, server.grpc) as producer:
        with pytest.raises(ValueError, match=message):
            await producer.send(event(**members))
        await producer.send(numbered(0))
    assert producer.metrics.sent == producer.metrics.accepted == 1


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


async def test_what_the_callback_raises_ends_the_producer(
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


# --- back-pressure -------------------------------------------------------------------------------


async def test_a_full_buffer_makes_send_wait(server: Addresses, tenant: Tenant) -> None:
    async with TcpProxy(server.grpc) as proxy:
        options = {"max_batch_events": 10, "max_buffered_events": 100, "max_in_flight": 4}
        async with producer_for(tenant, proxy.address, **options) as producer:
            with proxy.holding_answers():

                async def send_all() -> None:
                    for n in range(500):
                        await producer.send(numbered(n))

                sending = asyncio.create_task(send_all())
                await until(lambda: producer.metrics.in_flight_batches == 4)
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

                sending = await waits(send_all())
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


async def test_close_waits_for_the_last_ack(server: Addresses, tenant: Tenant) -> None:
    async with TcpProxy(server.grpc) as proxy:
        producer = producer_for(tenant, proxy.address)
        await producer.start()
        with proxy.holding_answers():
            await producer.send(numbered(0))
            closing = await waits(producer.close())
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
            first = await waits(producer.close())
            second = await waits(producer.close())
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
            first = await waits(producer.close())
            second = await waits(producer.close())
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


async def test_a_close_that_failed_fails_again(scripted: Scripted) -> None:
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


async def test_cancelling_a_sender_that_waits_takes_nothing(
    server: Addresses, tenant: Tenant
) -> None:
    async with (
        TcpProxy(server.grpc) as proxy,
        producer_for(tenant, proxy.address, max_buffered_events=1) as producer,
    ):
        with proxy.holding_answers():
            await producer.send(numbered(0))
            sending = await waits(producer.send(numbered(99)), 0.1)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        await producer.send(numbered(1))
    assert await stored_numbers(tenant) == each_once(2)


async def test_an_end_can_wait_for_what_is_in_flight_only(
    server: Addresses, tenant: Tenant
) -> None:
    async with TcpProxy(server.grpc) as proxy:
        producer = producer_for(tenant, proxy.address, max_batch_events=1, max_in_flight=3)
        await producer.start()
        with proxy.holding_answers():
            for n in range(10):
                await producer.send(numbered(n))
            await until(lambda: producer.metrics.in_flight_batches == 3)
            ending = await waits(producer.abort(10))
        await ending
    assert producer.metrics.acked == 3
    assert await stored_numbers(tenant) == each_once(3)


async def test_a_block_that_is_cancelled_does_not_wait(server: Addresses, tenant: Tenant) -> None:
    async with TcpProxy(server.grpc) as proxy:

        async def work() -> None:
            async with producer_for(tenant, proxy.address) as producer:
                with proxy.holding_answers():
                    await producer.send(numbered(0))
                    await asyncio.sleep(60)

        working = await waits(work())
        working.cancel()
        async with asyncio.timeout(10):
            await asyncio.gather(working, return_exceptions=True)


# --- disconnects ---------------------------------------------------------------------------------


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
    service = RunningService(database_url)
    target = service.start().grpc
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


async def test_batches_of_ones_own_resume_across_programs(
    server: Addresses, tenant: Tenant
) -> None:
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


async def test_a_batch_of_ones_own_is_one_or_is_refused(server: Addresses, tenant: Tenant) -> None:
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


# --- what does not pass --------------------------------------------------------------------------


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

        hurrying = asyncio.create_task(hurry())
        await asyncio.sleep(0.05)
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


async def test_a_revoked_key_ends_it(server: Addresses, tenant: Tenant) -> None:
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


async def test_a_wrong_key_is_told_at_the_start(server: Addresses, tenant: Tenant) -> None:
    producer = StreamProducer(server.grpc, f"wp_live_{'0' * 32}", "somebody")
    with pytest.raises(ProducerError, match="INVALID_KEY"):
        await producer.start()


async def test_a_server_that_is_not_there_is_given_up(tenant: Tenant) -> None:
    async with TcpProxy("127.0.0.1:1") as nobody:
        producer = producer_for(tenant, nobody.address, give_up_after_seconds=0.5)
        began = time.monotonic()
        with pytest.raises(ProducerError, match=r"given up after 0\.5 s") as caught:
            await producer.start()
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    assert nobody.connections >= 2
    assert 0.1 < time.monotonic() - began < 10


# --- a server that says what the real one only rarely does ----------------------------------------


class ScriptedServer:
    """Ends each stream with the next status of its script, then serves; remembers the batches."""

    def __init__(self, script: list[status_pb2.Status], last_sequence: int = 0) -> None:
        self.script = script
        self.last_sequence = last_sequence
        self.max_in_flight = 32
        self.acking = asyncio.Event()
        self.acking.set()
        self.opened: list[float] = []
        self.batches: list[int] = []

    async def serve(self, _: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        await context.read()
        self.opened.append(time.monotonic())
        opened = pb.StreamOpened(last_sequence=self.last_sequence, max_in_flight=self.max_in_flight)
        await context.write(pb.StreamEventsResponse(opened=opened))
        status = self.script.pop(0) if self.script else None
        if status is not None:
            await context.read()
            if status.code:
                await context.abort_with_status(rpc_status.to_status(status))
            return
        while isinstance(request := await context.read(), pb.StreamEventsRequest):
            self.last_sequence = request.batch.sequence
            self.batches.append(self.last_sequence)
            await self.acking.wait()
            ack = pb.StreamAck(sequence=self.last_sequence, accepted=len(request.batch.events))
            await context.write(pb.StreamEventsResponse(ack=ack))


@pytest.fixture
async def scripted() -> AsyncIterator[Callable[..., Awaitable[tuple[ScriptedServer, str]]]]:
    servers = []

    async def start(*script: status_pb2.Status) -> tuple[ScriptedServer, str]:
        behaviour = ScriptedServer(list(script))
        server = grpc.aio.server()
        handler = grpc.stream_stream_rpc_method_handler(
            behaviour.serve,
            request_deserializer=pb.StreamEventsRequest.FromString,
            response_serializer=pb.StreamEventsResponse.SerializeToString,
        )
        name = "wepeople.ingest.v1.IngestService"
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(name, {"StreamEvents": handler}),)
        )
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        servers.append(server)
        return behaviour, f"127.0.0.1:{port}"

    yield start
    for server in servers:
        await server.stop(0)


def status(name: str, retry_seconds: float | None = None) -> status_pb2.Status:
    details = []
    if retry_seconds is not None:
        packed = any_pb2.Any()
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(int(retry_seconds * 1_000))
        packed.Pack(retry)
        details.append(packed)
    return status_pb2.Status(code=code_pb2.Code.Value(name), message="as told", details=details)


Scripted = Callable[..., Awaitable[tuple[ScriptedServer, str]]]

PASSING = (
    "UNAVAILABLE",
    "INTERNAL",
    "UNKNOWN",
    "CANCELLED",
    "DEADLINE_EXCEEDED",
    "OUT_OF_RANGE",
    "OK",
)


@pytest.mark.parametrize("name", PASSING)
async def test_statuses_that_pass_are_met_by_opening_again(scripted: Scripted, name: str) -> None:
    server, target = await scripted(status(name))
    async with StreamProducer(target, "key", "me") as producer:
        await producer.send(event())
        await producer.flush()
    assert len(server.opened) == 2
    assert server.batches == [1]


@pytest.mark.parametrize("name", ["INVALID_ARGUMENT", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED"])
async def test_statuses_that_do_not_pass_are_raised(scripted: Scripted, name: str) -> None:
    server, target = await scripted(status(name))
    producer = StreamProducer(target, "key", "me")
    await producer.start()
    await producer.send(event())
    with pytest.raises(ProducerError, match="as told") as caught:
        await producer.close()
    assert caught.value.code is grpc.StatusCode[name]
    assert len(server.opened) == 1


@pytest.mark.parametrize("name", ["UNAVAILABLE", "RESOURCE_EXHAUSTED"])
async def test_retry_info_is_honoured(scripted: Scripted, name: str) -> None:
    server, target = await scripted(status(name, retry_seconds=0.6))
    async with StreamProducer(target, "key", "me") as producer:
        await producer.send(event())
    first, second = server.opened
    assert 0.6 <= second - first < 5


async def test_the_window_of_the_server_is_respected(scripted: Scripted) -> None:
    server, target = await scripted()
    server.max_in_flight = 2
    server.acking.clear()
    async with StreamProducer(target, "key", "me", max_batch_events=1) as producer:
        for _ in range(6):
            await producer.send(event())
        await until(lambda: producer.metrics.in_flight_batches == 2)
        await asyncio.sleep(0.1)
        assert producer.metrics.in_flight_batches == 2
        server.acking.set()
    assert server.batches == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("last_sequence", [0, 9])
async def test_a_server_that_does_not_remember_is_not_believed(
    scripted: Scripted, last_sequence: int
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


# --- without a server ----------------------------------------------------------------------------


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


def test_a_full_batch_stays_within_a_message() -> None:
    buffer = SendBuffer(500)
    one = pb.IngestEvent(metadata_json=b"x" * 2_200)
    buffer.start(2**62)
    while buffer.fits(one.ByteSize() + 4):
        buffer.add(one, one.ByteSize() + 4)
    buffer.seal()
    batch = buffer.next_to_send(1)
    assert batch is not None
    assert batch.count < 500
    assert 1_048_576 - 4_096 < len(batch.message) <= 1_048_576


def test_importing_it_brings_no_server_along() -> None:
    code = (
        "import sys, grpc_api.producer; "
        "print([m for m in ('psycopg', 'grpc_api.stream', 'core.ingest') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.strip() == "[]"
