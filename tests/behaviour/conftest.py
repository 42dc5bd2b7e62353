"""Services beside the shared one: a replica on its database, and one whose time tests move."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from tests.support.driver import Driver
from tests.support.grpc_driver import GrpcDriver
from tests.support.http_driver import HttpDriver
from tests.support.manual_time import ManualTime, TimedService
from tests.support.running_service import Addresses, RunningService
from tests.support.two_cells import copied_database

Connect = Callable[[Addresses], Driver]


@pytest.fixture(scope="session")
def replica(server: Addresses) -> Iterator[Addresses]:
    """A second process's worth of service on the shared server's database."""
    with RunningService(server.database_url) as service:
        yield service.addresses


@pytest.fixture(scope="session")
def timed_service(postgres: str, template_database: str) -> Iterator[TimedService]:
    """A service whose time passes only when a test says so; shared, so it is any time."""
    name = f"wepeople_timed_{os.getpid()}"
    time = ManualTime()
    with (
        copied_database(postgres, name, template_database) as url,
        RunningService(url, time.clock) as service,
    ):
        yield TimedService(service.addresses, time)


@pytest.fixture
def own_server(database_url: str) -> Iterator[Addresses]:
    """A service on a database of the test's own."""
    with RunningService(database_url) as service:
        yield service.addresses


@pytest.fixture
async def connect(driver: Driver) -> AsyncIterator[Connect]:
    """Makes clients of the driver's protocol for other services than the shared one.

    Coroutines call it: a client belongs to the event loop that runs.
    """
    clients: list[Driver] = []

    def connect(addresses: Addresses) -> Driver:
        if driver.name == "http":
            clients.append(HttpDriver(addresses.http))
        else:
            assert addresses.grpc is not None
            clients.append(GrpcDriver(addresses.grpc))
        return clients[-1]

    yield connect
    for client in clients:
        await client.close()


@pytest.fixture
async def replicas(driver: Driver, connect: Connect, replica: Addresses) -> tuple[Driver, Driver]:
    """Clients of the shared server and of its replica."""
    return driver, connect(replica)


@pytest.fixture(params=["events", "snapshots"])
def endpoint(request: pytest.FixtureRequest) -> str:
    """Each endpoint that writes, in turn."""
    return str(request.param)
