"""A real PostgreSQL for every test that wants one, and the service on it."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from psycopg import sql
from psycopg.conninfo import make_conninfo

from core.postgres.migrate import migrate
from service.postgres.embedded import EmbeddedPostgres
from tests.support.driver import Driver
from tests.support.grpc_driver import GrpcDriver
from tests.support.http_driver import HttpDriver
from tests.support.running_service import Addresses, RunningService
from tests.support.tenant import Tenant, make_tenant

_numbers = itertools.count(1)

# A busy machine is slow to make examples; that says nothing of the code under test.
settings.register_profile("busy", suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Coroutine tests run on asyncio."""
    return "asyncio"


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A connection string of a server whose databases are ours to make and drop.

    ``DATABASE_URL`` if it is set, else an embedded PostgreSQL that ends with the session.
    """
    if os.environ.get("DATABASE_URL"):
        yield os.environ["DATABASE_URL"]
        return
    folder = Path(tempfile.mkdtemp(prefix="wepeople-test-"))
    try:
        with EmbeddedPostgres(folder).acquire() as lease:
            yield lease.conninfo
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _create(postgres: str, name: str, template: str = "template0") -> str:
    with psycopg.connect(postgres, autocommit=True) as db:
        db.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} ENCODING 'UTF8'").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
    return make_conninfo(postgres, dbname=name)


def _drop(postgres: str, name: str) -> None:
    with psycopg.connect(postgres, autocommit=True) as db:
        db.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def template_database(postgres: str) -> Iterator[str]:
    """The name of a migrated database that is copied, never used."""
    name = f"wepeople_template_{os.getpid()}"
    asyncio.run(migrate(_create(postgres, name)))
    yield name
    _drop(postgres, name)


@pytest.fixture
def database_url(postgres: str, template_database: str) -> Iterator[str]:
    """A migrated database of the test's own."""
    name = f"wepeople_test_{os.getpid()}_{next(_numbers)}"
    yield _create(postgres, name, template_database)
    _drop(postgres, name)


@pytest.fixture(scope="session")
def server(postgres: str, template_database: str) -> Iterator[Addresses]:
    """A service that tests share, each with an organization of its own."""
    name = f"wepeople_shared_{os.getpid()}"
    with RunningService(_create(postgres, name, template_database)) as service:
        yield service.addresses
    _drop(postgres, name)


@pytest.fixture(params=["http", "grpc"])
async def driver(request: pytest.FixtureRequest, server: Addresses) -> AsyncIterator[Driver]:
    """A client of each protocol in turn."""
    client: Driver = HttpDriver(server.http) if request.param == "http" else GrpcDriver(server.grpc)
    yield client
    await client.close()


@pytest.fixture
async def grpc(server: Addresses) -> AsyncIterator[GrpcDriver]:
    """A client of the gRPC API, for what is peculiar to it."""
    client = GrpcDriver(server.grpc)
    yield client
    await client.close()


@pytest.fixture
async def http(server: Addresses) -> AsyncIterator[HttpDriver]:
    """A client of the REST API, for what is peculiar to it."""
    client = HttpDriver(server.http)
    yield client
    await client.close()


MakeTenant = Callable[..., Awaitable[Tenant]]


@pytest.fixture
def new_tenant(server: Addresses) -> MakeTenant:
    """Makes organizations on the shared server, as :func:`tests.support.tenant.make_tenant`."""

    def make(**options: object) -> Awaitable[Tenant]:
        return make_tenant(server.database_url, **options)

    return make


@pytest.fixture
async def tenant(new_tenant: MakeTenant) -> Tenant:
    """An organization without a quota, with one app and a fast key."""
    return await new_tenant()
