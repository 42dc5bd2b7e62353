"""Services of several server processes, and clients of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from service.postgres.embedded import EmbeddedPostgres
from tests.service.processes.several import (
    CONNECTIONS,
    new_service,
)
from tests.support.driver import Driver
from tests.support.grpc_driver import GrpcDriver
from tests.support.http_driver import HttpDriver
from tests.support.service_process import EmbeddedServiceProcess


@pytest.fixture(scope="package")
def shared_service() -> Iterator[EmbeddedServiceProcess]:
    """The service of the tests that do it no harm."""
    with new_service() as served:
        yield served


@pytest.fixture
def own_service() -> Iterator[EmbeddedServiceProcess]:
    """A service for a test that kills."""
    with new_service() as served:
        yield served


@pytest.fixture(scope="package")
def shared_database(shared_service: EmbeddedServiceProcess) -> Iterator[str]:
    """The database of the shared service."""
    with EmbeddedPostgres(shared_service.data_dir).acquire() as lease:
        yield lease.conninfo


@pytest.fixture
async def drivers(shared_service: EmbeddedServiceProcess) -> AsyncIterator[list[Driver]]:
    """Clients of both protocols, each with a connection of its own."""
    drivers: list[Driver] = []
    for _ in range(CONNECTIONS):
        drivers += [
            HttpDriver(shared_service.url),
            GrpcDriver(shared_service.grpc, own_connection=True),
        ]
    yield drivers
    for driver in drivers:
        await driver.close()
