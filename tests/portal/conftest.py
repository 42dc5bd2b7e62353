"""A browser, and a service with a demo key to show."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple

import pytest
from playwright.async_api import Browser

from tests.portal.console import FilledConsole, filled_console
from tests.support.browser import chromium
from tests.support.running_service import Addresses, RunningService
from tests.support.tenant import Tenant, make_tenant
from tests.support.two_cells import copied_database


class Demo(NamedTuple):
    """A service that shows a key, and the key's organization."""

    addresses: Addresses
    tenant: Tenant


@pytest.fixture(scope="module")
def demo(postgres: str, template_database: str) -> Iterator[Demo]:
    """The service in demo mode."""
    with copied_database(postgres, f"wepeople_portal_{os.getpid()}", template_database) as url:
        tenant = asyncio.run(make_tenant(url))
        with RunningService(url, shown_key=tenant.key) as service:
            yield Demo(service.addresses, tenant)


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    """One browser for the tests of a module."""
    async with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
async def filled(postgres: str, template_database: str) -> AsyncIterator[FilledConsole]:
    """A console with data to show."""
    with copied_database(postgres, f"wepeople_console_{os.getpid()}", template_database) as url:
        async with filled_console(url) as console:
            yield console
