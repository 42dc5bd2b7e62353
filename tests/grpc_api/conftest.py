"""Streams, services of a test's own, and a database that goes away."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import AsyncIterator, Callable, Iterator

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from tests.support.grpc_driver import GrpcDriver
from tests.support.running_service import Addresses, RunningService
from tests.support.stream_client import Stream

OpenStream = Callable[..., Stream]
Connect = Callable[[Addresses], GrpcDriver]


@pytest.fixture(scope="session", autouse=True)
async def one_event_loop(anyio_backend: str) -> AsyncIterator[None]:
    """Keeps one event loop for all tests: what remains of a call of grpc.aio when its test is over
    arrives later, and must find its loop open."""
    yield  # noqa: PT022 - the loop lives as long as the fixture


@pytest.fixture(scope="session")
def replica_service(server: Addresses) -> Iterator[RunningService]:
    """A second service on the shared server's database, whose tasks tests may look at."""
    with RunningService(server.database_url) as service:
        yield service


@pytest.fixture(scope="session")
def replica(replica_service: RunningService) -> Addresses:
    """Where the second service is."""
    return replica_service.addresses


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Keeps the garbage collector off: what goes must go without it."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Makes clients of other services than the shared one."""
    clients: list[GrpcDriver] = []

    def connect(addresses: Addresses) -> GrpcDriver:
        clients.append(GrpcDriver(addresses.grpc))
        return clients[-1]

    yield connect
    for client in clients:
        await client.close()


@pytest.fixture
async def stream(grpc: GrpcDriver) -> AsyncIterator[OpenStream]:
    """Starts streams, on the shared server or another client's; they end with the test."""
    streams: list[Stream] = []

    def start(key: str | None, client: GrpcDriver = grpc) -> Stream:
        streams.append(Stream(client.channel, key))
        return streams[-1]

    yield start
    for one in streams:
        await one.close()


DatabaseAway = Callable[[str], contextlib.AbstractContextManager[None]]


@pytest.fixture
def database_away(postgres: str) -> DatabaseAway:
    """Takes a database away from whoever uses it, for the length of a block."""

    @contextlib.contextmanager
    def away(database_url: str) -> Iterator[None]:
        name = str(conninfo_to_dict(database_url)["dbname"])
        allow = sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS {}")
        with psycopg.connect(postgres, autocommit=True) as db:
            db.execute(allow.format(sql.Identifier(name), sql.SQL("false")))
            db.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
            )
            try:
                yield
            finally:
                db.execute(allow.format(sql.Identifier(name), sql.SQL("true")))

    return away
