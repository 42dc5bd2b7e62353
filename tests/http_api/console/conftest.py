"""Browsers that are signed in to the console."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.console_driver import ConsoleDriver
from tests.support.operator_tokens import make_operator
from tests.support.running_service import Addresses, RunningService


@pytest.fixture(scope="module")
def server(server: Addresses) -> Iterator[Addresses]:
    """A service that counts the unknown tokens of these tests alone."""
    with RunningService(server.database_url) as service:
        yield service.addresses


@pytest.fixture
async def console(server: Addresses) -> AsyncIterator[ConsoleDriver]:
    """A browser of an operator who may change things."""
    _, token = await make_operator(server.database_url)
    async with ConsoleDriver(server.http) as driver:
        assert (await driver.sign_in(token)).status_code == 303
        yield driver


@pytest.fixture
async def reading(server: Addresses) -> AsyncIterator[ConsoleDriver]:
    """A browser of an operator who may only read."""
    _, token = await make_operator(server.database_url, "read")
    async with ConsoleDriver(server.http) as driver:
        assert (await driver.sign_in(token)).status_code == 303
        yield driver
