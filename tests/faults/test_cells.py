"""Cells on two servers, one of which is killed under load, or hangs."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import grpc
import httpx
import pytest

from core.access.key_cache import MAX_KEY_AGE_SECONDS
from core.postgres.migrate import migrate
from tests.faults.conftest import check_unavailable
from tests.support.batch_load import BatchLoad
from tests.support.cells import add_cell, make_tenant_in, url_of
from tests.support.driver import Driver
from tests.support.grpc_driver import GrpcDriver
from tests.support.http_driver import HttpDriver
from tests.support.postgres_proxy import PostgresProxy
from tests.support.postgres_server import PostgresServer, postgres_server
from tests.support.service_process import ServiceProcess, service_on
from tests.support.stream_client import Stream
from tests.support.streaming import Streaming, stored
from tests.support.tenant import Tenant, event, make_tenant
from tests.support.waiting import wait_until

PROBES_A_SECOND = 20
PROBES = 60  # without a fault, and as many with one
CLIENTS = 2
# A flat bound, or by the unloaded figure where the machine is slow (contract section 13).
SLOWEST_SECONDS, SLOWEST_OF_USUAL = 0.5, 50
BACK_SECONDS = 30.0


class Party(NamedTuple):
    """A server, the organization on it, and the way to the tables of its cell."""

    server: PostgresServer
    tenant: Tenant
    tables: str


class World(NamedTuple):
    """The home cell, and a cell on another server, which the service reaches by ``way``."""

    home: Party
    west: Party
    way: PostgresProxy


@pytest.fixture
def world() -> Iterator[World]:
    with (
        postgres_server() as home,
        postgres_server() as west,
        PostgresProxy(west.conninfo) as way,
    ):

        async def fill() -> World:
            await migrate(home.conninfo)
            cell = await add_cell(home.conninfo, "west", way.conninfo)
            tables = url_of(cell._replace(conninfo=west.conninfo), home.conninfo)
            return World(
                Party(home, await make_tenant(home.conninfo), home.conninfo),
                Party(west, await make_tenant_in(cell, home.conninfo), tables),
                way,
            )

        yield asyncio.run(fill())


class Killed:
    """The server of the cell is killed, and started again."""

    def __init__(self, world: World) -> None:
        self._server = world.west.server

    def begin(self) -> None:
        self._server.kill()

    def end(self) -> None:
        self._server.start()


class Hanging:
    """The server of the cell, or the way to it, hangs for a while."""

    def __init__(self, world: World) -> None:
        self._way = world.way

    def begin(self) -> None:
        self._way.freeze()

    def end(self) -> None:
        self._way.unfreeze()


class Work:
    """Batches and a stream of one organization, and the check that nothing of them is lost."""

    def __init__(self, service: ServiceProcess, party: Party) -> None:
        self.batches = BatchLoad(service, party.tenant)
        self._streaming = Streaming(service.grpc, party.tenant, pause_seconds=0.01)
        self._tables = party.tables

    async def run(self, faults: Callable[[], None]) -> None:
        """Work while faults happen, and until everything is acknowledged."""
        stream = asyncio.create_task(self._streaming.run())
        try:
            await self.batches.run(faults, clients=CLIENTS)
        finally:
            self._streaming.is_over = True
        await stream

    def check(self) -> None:
        """Everything is there, once."""
        batches, streamed, _ = stored(self._tables)
        self.batches.check(batches)
        assert streamed == Counter(range(self._streaming.sent))


@dataclass
class Probes:
    """Requests of one organization, each of which must be accepted soon."""

    service: ServiceProcess
    key: str
    seconds: list[float] = field(default_factory=list)
    is_over: bool = False

    async def run(self) -> None:
        """Ask over both protocols in turn."""
        drivers: list[Driver] = [HttpDriver(self.service.url), GrpcDriver(self.service.grpc)]
        while not self.is_over:
            for driver in drivers:
                begin = time.monotonic()
                reply = await driver.ingest(self.key, [event()])
                assert reply.code is None, reply
                self.seconds.append(time.monotonic() - begin)
                await asyncio.sleep(1 / PROBES_A_SECOND)
        for driver in drivers:
            await driver.close()

    def some_more(self) -> list[float]:
        """What the next of them take; for the thread of the faults."""
        before = len(self.seconds)
        wait_until(
            lambda: len(self.seconds) >= before + PROBES, "requests are accepted", seconds=60
        )
        return self.seconds[before:]


def post(service: ServiceProcess, tenant: Tenant) -> httpx.Response:
    """A single event."""
    return httpx.post(
        f"{service.url}/api/v1/ingest/events",
        json={"events": [event()]},
        headers={"Authorization": f"Bearer {tenant.key}"},
        timeout=20,
    )


def check_refused(service: ServiceProcess, tenant: Tenant) -> None:
    """An organization that is told to come again, over both protocols."""
    check_unavailable(post(service, tenant))

    async def check_grpc() -> None:
        driver = GrpcDriver(service.grpc, own_connection=True)
        reply = await driver.ingest(tenant.key, [event()])
        assert (reply.code, reply.retry_after_seconds is not None) == ("internal_error", True)
        # It is refused before it sends; who sends to a call that ends may not get its status.
        stream = Stream(driver.channel, tenant.key)
        assert (await stream.end()).status is grpc.StatusCode.UNAVAILABLE
        await driver.close()

    asyncio.run(check_grpc())


def is_ready(service: ServiceProcess) -> bool:
    return httpx.get(f"{service.url}/readyz").status_code == 200


def is_refused(service: ServiceProcess, tenant: Tenant) -> bool:
    return post(service, tenant).status_code == 500


@pytest.mark.timed
@pytest.mark.timeout(240)
@pytest.mark.parametrize("fault_of", [Killed, Hanging])
def test_a_cell_that_is_away_is_noticed_by_its_organizations_alone(
    world: World, fault_of: type[Killed | Hanging]
) -> None:
    home, west, _ = world
    fault = fault_of(world)
    with service_on(home.server.conninfo) as service:
        works = Work(service, home), Work(service, west)
        probes = Probes(service, home.tenant.key)
        away = 'wepeople_cell_away{cell="west"} 1.0'

        def lose_west() -> None:
            for work in works:
                work.batches.acknowledges(20)
            usual = probes.some_more()
            fault.begin()
            since = probes.some_more()
            slowest = max(SLOWEST_SECONDS, SLOWEST_OF_USUAL * statistics.median(usual))
            assert max(since) < slowest, f"usually {statistics.median(usual):.4f} s"
            wait_until(lambda: away in httpx.get(f"{service.url}/metrics").text, "it is counted")

            def is_refused_at_once() -> bool:
                begin = time.monotonic()
                check_refused(service, west.tenant)
                return time.monotonic() - begin < slowest

            # Look-ups of keys that began before it was noticed take their time to end.
            wait_until(is_refused_at_once, "nobody waits for a cell that is away")
            assert is_ready(service)
            works[0].batches.acknowledges(20)
            fault.end()
            works[1].batches.acknowledges(20, BACK_SECONDS)

        asyncio.run(run_all(works, lose_west, probes))
        assert away not in httpx.get(f"{service.url}/metrics").text
    for work in works:
        work.check()


@pytest.mark.timed
@pytest.mark.timeout(240)
def test_without_its_home_database_a_service_goes_on_with_what_it_knows_for_a_moment(
    world: World,
) -> None:
    home, west, _ = world
    with service_on(home.server.conninfo) as service:
        works = Work(service, home), Work(service, west)

        def kill_home() -> None:
            for work in works:
                work.batches.acknowledges(20)
            assert is_ready(service)
            began = time.monotonic()
            home.server.kill()
            answer = post(service, west.tenant)
            if time.monotonic() - began < MAX_KEY_AGE_SECONDS / 2:  # or this machine is busy
                assert answer.status_code == 202, answer.text
            wait_until(lambda: is_refused(service, west.tenant), "the keys are too old")
            for party in (home, west):
                check_refused(service, party.tenant)
            wait_until(lambda: not is_ready(service), "the service is not ready")
            home.server.start()
            wait_until(lambda: is_ready(service), "the service is ready", seconds=BACK_SECONDS)
            for work in works:
                work.batches.acknowledges(20, BACK_SECONDS)

        asyncio.run(run_all(works, kill_home))
    for work in works:
        work.check()


async def run_all(
    works: tuple[Work, Work], faults: Callable[[], None], probes: Probes | None = None
) -> None:
    """Work, all at once, while the faults happen in a thread."""
    are_over = threading.Event()

    def cause() -> None:
        try:
            faults()
        finally:
            are_over.set()
            if probes is not None:
                probes.is_over = True

    def wait() -> None:
        are_over.wait()

    async with asyncio.TaskGroup() as group:
        group.create_task(works[0].run(cause))
        group.create_task(works[1].run(wait))
        if probes is not None:
            group.create_task(probes.run())
