"""A real PostgreSQL for every test that wants one, and the service on it."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, settings

from core.postgres.migrate import migrate
from tests.support import judging, parallel, reruns, tls_contexts
from tests.support.certificates import Certificates, make_certificates
from tests.support.databases import new_database
from tests.support.driver import Driver
from tests.support.grpc_driver import GrpcDriver
from tests.support.http_driver import HttpDriver
from tests.support.kept_sessions import keeping_sessions
from tests.support.metrics import made_later
from tests.support.running_service import Addresses, RunningService
from tests.support.tenant import Tenant, make_tenant, make_tenants
from tests.support.two_cells import copied_database, second_cell
from tests.support.unsynced_postgres import UnsyncedPostgres

_numbers = itertools.count(1)

# httpcore looks for it in each request, and Python for a missing module in every folder each time.
sys.modules.setdefault("sniffio", None)  # type: ignore[arg-type]

# A busy machine is slow to make examples; that says nothing of the code under test.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


def pytest_configure(config: pytest.Config) -> None:
    """Prepare the process: the folder of this test run, and what tests have in common."""
    parallel.share_folder(config)
    reruns.exclude(config)
    tls_contexts.share_default()


@pytest.hookimpl(optionalhook=True)  # it is pytest-xdist's
def pytest_configure_node(node: Any) -> None:
    """Tell each test process of the folder."""
    parallel.tell_folder(node.config, node.workerinput)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave no folder behind."""
    parallel.remove_folder(config)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests of each kind together, those last that run alone: until then every process
    has something to do."""
    items.sort(key=lambda item: parallel.KINDS.index(parallel.kind_of(item)))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect no garbage while tests are collected, nor ever what was made then: it stays."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell of flaky tests at the end."""
    reruns.tell(terminalreporter)


# Around pytest-timeout's: the time that a test waits to run is not its own.
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let a test run beside those of its kind, whatever the other processes have to do."""
    folder = item.config.stash[parallel.FOLDER]
    with parallel.permission_to_run(folder, parallel.kind_of(item)):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make a report fit to be sent from one process to another."""
    report = yield
    parallel.make_printable(report)
    return report


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Coroutine tests run on asyncio."""
    return "asyncio"


@pytest.fixture(scope="session")
def postgres(pytestconfig: pytest.Config) -> Iterator[str]:
    """A connection string of a server whose databases are ours to make and drop.

    ``DATABASE_URL`` if it is set, else an embedded PostgreSQL that all test processes share and
    that ends with the last of them.
    """
    if os.environ.get("DATABASE_URL"):
        yield os.environ["DATABASE_URL"]
        return
    with UnsyncedPostgres(pytestconfig.stash[parallel.FOLDER]).acquire() as lease:
        yield lease.conninfo


@pytest.fixture(scope="session")
def template_database(postgres: str, pytestconfig: pytest.Config) -> Iterator[str]:
    """The name of a migrated database that is copied, never used."""
    name = f"wepeople_template_{os.getpid()}"
    with new_database(postgres, name) as url:
        asyncio.run(migrate(url))
        with second_cell(url, pytestconfig.stash[parallel.FOLDER]):
            yield name


@pytest.fixture
def database_url(postgres: str, template_database: str) -> Iterator[str]:
    """A migrated database of the test's own."""
    name = f"wepeople_test_{os.getpid()}_{next(_numbers)}"
    with copied_database(postgres, name, template_database) as url:
        yield url


@pytest.fixture(scope="module")
def module_database(postgres: str, template_database: str) -> Iterator[str]:
    """A migrated database that the tests of a file share, each with an organization of its own."""
    name = f"wepeople_module_{os.getpid()}_{next(_numbers)}"
    with copied_database(postgres, name, template_database) as url:
        yield url


@pytest.fixture(scope="session")
def server(postgres: str, template_database: str) -> Iterator[Addresses]:
    """A service that the tests of a process share, each with an organization of its own."""
    name = f"wepeople_shared_{os.getpid()}"
    with (
        copied_database(postgres, name, template_database) as url,
        keeping_sessions(url),
        RunningService(url) as service,
    ):
        yield service.addresses
        # Whatever the tests of a whole run have asked of it.
        page = httpx.get(f"{service.addresses.http}/metrics").text
        assert made_later(page) == set(), "every series is there from the start"


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Files for TLS; tests that change some do so in copies."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def mutual_tls(server: Addresses, certificates: Certificates) -> Iterator[Addresses]:
    """A service on the shared database that shows a certificate and wants to see one."""
    with RunningService(
        server.database_url,
        grpc_tls_certificate=certificates["server.pem"],
        grpc_tls_key=certificates["server.key"],
        grpc_tls_client_ca=certificates["authority.pem"],
    ) as service:
        yield service.addresses


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


@pytest.fixture(scope="session")
def unused_tenants() -> list[Tenant]:
    """Organizations on the shared server that no test has got yet."""
    return []


@pytest.fixture
def new_tenant(server: Addresses, unused_tenants: list[Tenant]) -> MakeTenant:
    """Makes organizations on the shared server, as :func:`tests.support.tenant.make_tenant`."""

    async def make(**options: Any) -> Tenant:
        if options:
            return await make_tenant(server.database_url, **options)
        if not unused_tenants:
            unused_tenants.extend(await make_tenants(server.database_url))
        return unused_tenants.pop()

    return make


@pytest.fixture
async def tenant(new_tenant: MakeTenant) -> Tenant:
    """An organization without a quota, with one app and a fast key."""
    return await new_tenant()


@pytest.fixture(scope="module")
def collector_of_the_service() -> Iterator[None]:
    """A garbage collector that costs as much as in the service."""
    with judging.collector_of_the_service():
        yield


@pytest.fixture
def no_collector() -> Iterator[None]:
    """A process that never looks for garbage; the service runs in it, too."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()
