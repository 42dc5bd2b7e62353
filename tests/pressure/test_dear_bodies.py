"""No single request costs much more than valid events of its size (contract section 12)."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import grpc
import pytest

from grpc_api.pb import ingest_pb2 as pb
from grpc_api.pb.ingest_pb2_grpc import IngestServiceStub
from tests.pressure.kinds.bodies import Body, dear_bodies, dear_messages, plain_body
from tests.pressure.service import Service
from tests.support.raw_http import ask
from tests.support.running_service import Addresses
from tests.support.tenant import Tenant, make_tenant

MAX_COST = 10  # times that of valid events of the same size
ROUNDS = 3
MAX_STALL_SECONDS = 0.25  # of a neighbour: five times the longest callback, beside other processes
PROBE_PAUSE_SECONDS = 0.002
MESSAGES = tuple(dear_messages())

pytestmark = [pytest.mark.anyio, pytest.mark.alone]


@pytest.fixture(scope="module")
def service(server: Addresses) -> Iterator[Service]:
    """One service for all bodies: none may harm it."""
    with Service(server.database_url) as service:
        yield service


@pytest.fixture
async def tenant(service: Service) -> Tenant:
    return await make_tenant(service.database_url)


@contextlib.asynccontextmanager
async def _neighbour(service: Service) -> AsyncIterator[list[float]]:
    """Asks for /healthz all the time; the seconds that its answers took."""
    stalls: list[float] = []

    async def probe() -> None:
        reader, writer = await asyncio.open_connection(*service.http_address)
        try:
            for _ in itertools.count():
                begin = time.monotonic()
                writer.write(b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n")
                # The body is read together with the next answer's head.
                await reader.readuntil(b"\r\n\r\n")
                stalls.append(time.monotonic() - begin)
                await asyncio.sleep(PROBE_PAUSE_SECONDS)
        finally:
            writer.transport.abort()

    task = asyncio.create_task(probe())
    try:
        yield stalls
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _cost(service: Service, send: Callable[[], Awaitable[object]]) -> tuple[float, float]:
    """CPU seconds of the cheapest of some requests, and the shortest of their longest stalls."""
    costs, longest = [], []
    for _ in range(ROUNDS):
        async with _neighbour(service) as stalls:
            before = service.cpu_seconds()
            await send()
            costs.append(service.cpu_seconds() - before)
        longest.append(max(stalls, default=0.0))
    return min(costs), min(longest)


def _check(name: str, dear: tuple[float, float], plain: tuple[float, float]) -> None:
    cost, stall = dear
    assert cost <= MAX_COST * plain[0], f"{name}: {cost:.2f} s of CPU, {plain[0]:.2f}"
    assert stall <= MAX_STALL_SECONDS, f"{name}: nobody else was answered for {stall:.2f} s"


@pytest.mark.parametrize("body", tuple(dear_bodies()), ids=lambda body: body.name)
async def test_a_dear_body_is_cheap_enough(service: Service, tenant: Tenant, body: Body) -> None:
    def send(body: Body) -> Callable[[], Awaitable[object]]:
        return lambda: ask(service.url, body.request(tenant.key))

    plain = await _cost(service, send(plain_body()))
    _check(body.name, await _cost(service, send(body)), plain)


@pytest.mark.parametrize(("name", "request_"), MESSAGES, ids=[name for name, _ in MESSAGES])
async def test_a_dear_message_is_cheap_enough(
    service: Service, tenant: Tenant, name: str, request_: pb.IngestEventsRequest
) -> None:
    plain_events = pb.IngestEvent(
        event_type="ticket.resolved",
        category="code",
        actor=pb.Actor(external_id="c1"),
        metadata_json=b'{"a":"%b"}' % (b"x" * 1_960),
    )
    plain_request = pb.IngestEventsRequest(events=[plain_events] * 500)
    async with grpc.aio.insecure_channel(service.grpc) as channel:
        stub = IngestServiceStub(channel)

        async def post(request: pb.IngestEventsRequest) -> None:
            with contextlib.suppress(grpc.aio.AioRpcError):  # refused or not: it is the cost
                metadata = (("authorization", f"Bearer {tenant.key}"),)
                await stub.IngestEvents(request, metadata=metadata, timeout=30)

        plain = await _cost(service, lambda: post(plain_request))
        _check(name, await _cost(service, lambda: post(request_)), plain)
