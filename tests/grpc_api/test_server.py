"""The server: health, its address, keepalive, and connections that outlive errors."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import grpc as grpc_library
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from grpc_api import server as grpc_server
from grpc_api.accepting import Acceptor
from grpc_api.pb import ingest_pb2 as pb
from tests.grpc_api.conftest import Connect, DatabaseAway
from tests.pressure.http2 import DEFAULT_WINDOW, RST_STREAM, Http2, call_headers
from tests.support.grpc_driver import GrpcDriver, error_reply
from tests.support.running_service import Addresses, RunningService
from tests.support.stream_client import Stream
from tests.support.tenant import UNKNOWN_KEY, Tenant, event, make_tenant, snapshot
from tests.support.waiting import WAIT_SECONDS, eventually

pytestmark = pytest.mark.anyio
SERVICE = "wepeople.ingest.v1.IngestService"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNAVAILABLE = grpc_library.StatusCode.UNAVAILABLE
CALLS_IN_TURN = 20
MAX_UNREAD_BYTES = 4 * 1_048_576
REFUSED_STREAM = (7).to_bytes(4, "big")


async def health(channel: grpc_library.aio.Channel, service: str) -> int:
    """One check."""
    stub: Any = health_pb2_grpc.HealthStub(channel)
    return int((await stub.Check(health_pb2.HealthCheckRequest(service=service))).status)


async def is_healthy(client: GrpcDriver, status: int) -> bool:
    """Whether the server as a whole and the service have this status."""
    return {await health(client.channel, name) for name in ("", SERVICE)} == {status}


@pytest.mark.parametrize("service", ["", SERVICE])
async def test_a_healthy_server_is_serving(service: str, grpc: GrpcDriver) -> None:
    assert await health(grpc.channel, service) == SERVING


async def test_health_is_known_from_the_first_answer_on(
    database_url: str, connect: Connect
) -> None:
    for _ in range(3):
        with RunningService(database_url) as service:
            assert await health(connect(service.addresses).channel, SERVICE) == SERVING


async def test_the_health_of_an_unknown_service_is_not_found(grpc: GrpcDriver) -> None:
    with pytest.raises(grpc_library.aio.AioRpcError) as caught:
        await health(grpc.channel, "wepeople.ingest.v1.Other")
    assert caught.value.code() is grpc_library.StatusCode.NOT_FOUND


async def test_database_away_is_unavailable_for_every_call_and_not_serving(
    database_url: str, connect: Connect, database_away: DatabaseAway
) -> None:
    tenant = await make_tenant(database_url)
    with RunningService(database_url) as service:
        client = connect(service.addresses)
        assert (await client.ping(tenant.key)).code is None
        with database_away(database_url):
            stream = Stream(client.channel, tenant.key)
            *replies, _ = await asyncio.gather(
                client.ping(UNKNOWN_KEY),
                client.ingest(tenant.key, [event()]),
                client.snapshot(tenant.key, snapshot()),
                stream.send(),
            )
            end = await stream.end()
            await eventually(lambda: is_healthy(client, NOT_SERVING), "it is not healthy")
        # Only UNAVAILABLE comes with RetryInfo: error_reply has asserted it.
        assert {reply.code for reply in replies} == {"internal_error"}
        assert all(reply.retry_after_seconds for reply in replies)
        assert (end.status, end.reason) == (UNAVAILABLE, "INTERNAL_ERROR")

        async def stored() -> bool:
            return (await client.ingest(tenant.key, [event()])).code is None

        await eventually(stored, "an event is stored again")
        await eventually(lambda: is_healthy(client, SERVING), "it is healthy again")
    assert len(await tenant.events()) == 1


async def test_a_stopping_server_is_not_serving_before_it_is_gone(
    database_url: str, connect: Connect
) -> None:
    tenant = await make_tenant(database_url)
    with RunningService(database_url, drain_seconds=2.0) as service:
        client = connect(service.addresses)
        stub: Any = health_pb2_grpc.HealthStub(client.channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        assert (await watch.read()).status == SERVING
        open_stream = Stream(client.channel, tenant.key)
        await open_stream.open("producer-1")
        started = time.monotonic()
        stopping = asyncio.create_task(asyncio.to_thread(service.stop))
        assert (await watch.read()).status == NOT_SERVING
        assert (await open_stream.end()).status is UNAVAILABLE
        late = Stream(client.channel, tenant.key)
        with contextlib.suppress(Exception):  # the server may be gone by now
            await late.call.done_writing()
        await stopping
        await late.close()
        assert time.monotonic() - started < 2 + 2 + 4  # each part drains, and a machine is busy


async def test_a_server_that_accepts_no_calls_any_more_ends_the_service(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise KeyError

    monkeypatch.setattr(Acceptor, "_accept", fail)
    with RunningService(database_url) as service:
        async with asyncio.timeout(20):
            error = await service.failure()
    assert isinstance(error, ExceptionGroup)
    assert error.subgroup(KeyError)


async def test_an_address_in_use_is_a_clear_error(server: Addresses, tenant: Tenant) -> None:
    refused = pytest.raises(OSError, match=f"cannot listen on {server.grpc}")
    with refused, RunningService(server.database_url, grpc=server.grpc):
        pass
    client = GrpcDriver(server.grpc)  # the first one has its port to itself
    for _ in range(5):
        assert (await client.ping(tenant.key)).code is None
    await client.close()


async def test_an_unusable_address_is_a_clear_error(server: Addresses) -> None:
    refused = pytest.raises(OSError, match=r"cannot listen on 192\.0\.2\.1:0")
    with refused, RunningService(server.database_url, grpc="192.0.2.1:0"):
        pass


async def test_keepalive_pings_of_idle_streams_are_not_punished(
    database_url: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Clients may not ping more often than every 10 seconds (as those of Go do not); to see it
    # here, a minute of the server's patience is made a second.
    assert grpc_server.MIN_CLIENT_PING_MS < 10_000
    name = "grpc.http2.min_ping_interval_without_data_ms"
    assert dict(grpc_server._OPTIONS)[name] == grpc_server.MIN_CLIENT_PING_MS
    faster = {**dict(grpc_server._OPTIONS), name: grpc_server.MIN_CLIENT_PING_MS // 60}
    monkeypatch.setattr(grpc_server, "_OPTIONS", tuple(faster.items()))
    tenant = await make_tenant(database_url)
    with RunningService(database_url) as service:
        channel = grpc_library.aio.insecure_channel(
            service.addresses.grpc,
            options=[
                ("grpc.keepalive_time_ms", 10_000 // 60),
                ("grpc.http2.max_pings_without_data", 0),
                ("grpc.keepalive_permit_without_calls", 1),
            ],
        )
        idle = Stream(channel, tenant.key)
        await idle.open("producer-1")
        await asyncio.sleep(1.5)  # nine pings; three too many end a connection
        await idle.send(sequence=1)
        assert (await idle.ack()).accepted == 1
        await idle.close()
        await channel.close()


async def test_a_connection_may_always_have_as_many_calls_as_are_allowed(
    grpc: GrpcDriver, tenant: Tenant
) -> None:
    # The library counts a call until its object is gone, some turns after its client has the end.
    async def call_on() -> None:
        for _ in range(CALLS_IN_TURN):
            assert (await grpc.ping(tenant.key)).code is None

    async with asyncio.TaskGroup() as group:
        for _ in range(grpc_server.MAX_CALLS):
            group.create_task(call_on())


class _Resetting(Http2):
    """Calls that are reset as they begin; ``refused`` is done once the server refuses one."""

    def __init__(self) -> None:
        super().__init__()
        self.refused = asyncio.get_running_loop().create_future()

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == RST_STREAM and payload == REFUSED_STREAM and not self.refused.done():
            self.refused.set_result(None)
        super()._frame(kind, flags, stream, payload)

    def window_of_a_call(self) -> int:
        return self._stream_window

    def reset_many(self) -> None:
        for _ in range(2 * grpc_server.MAX_CONCURRENT_STREAMS):
            self.reset(self.open(call_headers("Ping", None)))


async def test_calls_that_are_reset_as_they_begin_do_not_pile_up(server: Addresses) -> None:
    host, port = server.grpc.rsplit(":", 1)
    loop = asyncio.get_running_loop()
    transport, flood = await loop.create_connection(_Resetting, host, int(port))
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            while not flood.refused.done():
                flood.reset_many()
                await asyncio.sleep(0.01)
    finally:
        transport.abort()
        await flood.lost


async def test_what_nobody_reads_of_all_calls_of_a_connection_is_little(server: Addresses) -> None:
    host, port = server.grpc.rsplit(":", 1)
    loop = asyncio.get_running_loop()
    transport, peer = await loop.create_connection(_Resetting, host, int(port))
    try:
        window = peer.window_of_a_call
        await eventually(lambda: window() != DEFAULT_WINDOW, "the server tells its settings")
        assert window() * grpc_server.MAX_CONCURRENT_STREAMS <= MAX_UNREAD_BYTES
    finally:
        transport.abort()
        await peer.lost


async def test_errors_of_unary_calls_keep_the_connection(grpc: GrpcDriver, tenant: Tenant) -> None:
    for _ in range(3):
        assert (await grpc.ping(UNKNOWN_KEY)).code == "invalid_key"
        assert (await grpc.ping(tenant.key)).code is None
    with pytest.raises(grpc_library.aio.AioRpcError) as caught:
        await grpc.stub.Ping(pb.PingRequest())
    assert error_reply(caught.value).code == "missing_authorization"
