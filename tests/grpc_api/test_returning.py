"""Strangers who were refused and call again: they wait, and nobody else does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from functools import partial

import pytest
from grpc import StatusCode, aio

from grpc_api import returning
from grpc_api.pb import ingest_pb2 as pb
from grpc_api.returning import ReturningCalls
from tests.support.grpc_driver import GrpcDriver
from tests.support.running_service import RunningService
from tests.support.stream_client import Stream
from tests.support.tenant import UNKNOWN_KEY, Tenant, make_tenant
from tests.support.waiting import turns

pytestmark = pytest.mark.anyio

Ping = aio.UnaryUnaryCall[pb.PingRequest, pb.PingResponse]

FOR_EVER = 3_600.0
DRAIN_SECONDS = 120.0
CALLS = 60
# That the library accepts by itself, one after the other, and those that go on at once.
MOST_ANSWERED = CALLS // 2


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls that wait do so for ever."""
    monkeypatch.setattr(returning, "MAX_AT_ONCE", 1)
    monkeypatch.setattr(returning, "PAUSE_SECONDS", FOR_EVER)


@pytest.fixture
def service(held: None, database_url: str) -> Iterator[RunningService]:
    with RunningService(database_url, drain_seconds=DRAIN_SECONDS) as running:
        yield running


@pytest.fixture
async def tenant(service: RunningService, database_url: str) -> Tenant:
    return await make_tenant(database_url)


@pytest.fixture
async def stranger(service: RunningService) -> AsyncIterator[GrpcDriver]:
    """A client who was refused on a connection of its own."""
    async with _client(service) as one:
        assert (await one.ping(None)).code == "missing_authorization"
        yield one


@contextlib.asynccontextmanager
async def _client(service: RunningService) -> AsyncIterator[GrpcDriver]:
    one = GrpcDriver(service.addresses.grpc, own_connection=True)
    try:
        yield one
    finally:
        await one.close()


@contextlib.asynccontextmanager
async def _calls(stranger: GrpcDriver, key: str | None) -> AsyncIterator[list[Ping]]:
    """Calls that come together and are not answered, but for a few."""
    metadata = () if key is None else (("authorization", f"Bearer {key}"),)
    calls = [stranger.stub.Ping(pb.PingRequest(), metadata=metadata) for _ in range(CALLS)]
    try:
        yield calls
    finally:
        for call in calls:
            call.cancel()


def _answered(calls: list[Ping]) -> int:
    return sum(call.done() for call in calls)


@pytest.mark.parametrize("key", [None, "nonsense", UNKNOWN_KEY])
async def test_a_stranger_who_was_refused_waits_and_who_comes_new_does_not(
    key: str | None, service: RunningService, stranger: GrpcDriver, tenant: Tenant
) -> None:
    async with _calls(stranger, key) as calls:
        for _ in range(10):
            async with _client(service) as newcomer:
                assert (await newcomer.ping(tenant.key)).code is None
            async with _client(service) as newcomer:
                assert (await newcomer.ping(UNKNOWN_KEY)).code == "invalid_key"
        assert _answered(calls) <= MOST_ANSWERED


async def test_a_stream_of_a_stranger_waits_too(
    service: RunningService, stranger: GrpcDriver, tenant: Tenant
) -> None:
    streams = [Stream(stranger.channel, UNKNOWN_KEY) for _ in range(CALLS)]
    ends = [asyncio.ensure_future(stream.end()) for stream in streams]
    async with _client(service) as newcomer:
        for _ in range(10):
            assert (await newcomer.ping(tenant.key)).code is None
    assert sum(end.done() for end in ends) <= MOST_ANSWERED
    for end in ends:
        end.cancel()
    await asyncio.gather(*ends, return_exceptions=True)
    for stream in streams:
        await stream.close()


async def test_a_good_key_does_not_wait_and_makes_the_connection_known(
    service: RunningService, stranger: GrpcDriver, tenant: Tenant
) -> None:
    async with _client(service) as other:
        assert (await other.ping(tenant.key)).code is None  # so it is known to somebody
    async with _calls(stranger, UNKNOWN_KEY):
        assert (await stranger.ping(tenant.key)).code is None
        async with asyncio.TaskGroup() as group:
            for _ in range(CALLS):
                group.create_task(_refused(stranger))
        assert (await stranger.ping(tenant.key)).code is None


async def _refused(client: GrpcDriver) -> None:
    assert (await client.ping(UNKNOWN_KEY)).code == "invalid_key"


async def test_those_who_wait_do_not_hold_up_a_drain(
    service: RunningService, stranger: GrpcDriver, tenant: Tenant
) -> None:
    async with _calls(stranger, None) as calls:
        async with _client(service) as newcomer:
            for _ in range(10):
                assert (await newcomer.ping(tenant.key)).code is None
        async with asyncio.timeout(DRAIN_SECONDS / 2):
            await asyncio.to_thread(service.stop)
            codes = [await call.code() for call in calls]
        assert codes.count(StatusCode.UNAUTHENTICATED) <= MOST_ANSWERED


async def test_one_too_many_is_reset(stranger: GrpcDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(returning, "MAX_WAITING", 0)
    async with _calls(stranger, None) as calls, asyncio.timeout(DRAIN_SECONDS):
        codes = [await call.code() for call in calls]
    assert set(codes) <= {StatusCode.CANCELLED, StatusCode.UNAUTHENTICATED}
    assert codes.count(StatusCode.CANCELLED) >= CALLS - MOST_ANSWERED


async def test_so_many_go_on_at_once_in_their_order_and_too_many_are_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(returning, "PAUSE_SECONDS", FOR_EVER)
    monkeypatch.setattr(returning, "MAX_AT_ONCE", 3)
    monkeypatch.setattr(returning, "MAX_WAITING", 5)
    calls, gone_on = ReturningCalls(), list[int]()
    running = asyncio.create_task(calls.run())
    try:
        for number in range(7):
            calls.add(partial(gone_on.append, number))
        await turns(3)
        assert gone_on == [0, 1, 2]
        monkeypatch.setattr(returning, "PAUSE_SECONDS", 0)
    finally:
        running.cancel()
        await asyncio.wait([running])
    again = asyncio.create_task(calls.run())
    calls.add(partial(gone_on.append, 7))
    await turns(3)
    again.cancel()
    assert gone_on == [0, 1, 2, 7]  # what was left is dropped with the end
