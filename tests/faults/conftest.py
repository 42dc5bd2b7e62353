"""A service whose way to PostgreSQL can be lost, and a client of it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import httpx
import pytest

from tests.support.http_driver import HttpDriver
from tests.support.postgres_proxy import PostgresProxy
from tests.support.running_service import RunningService
from tests.support.tenant import Tenant, event, make_tenant
from tests.support.two_cells import IN_HOME_DATABASE

GIVE_UP_SECONDS = 15.0


@dataclass
class Client:
    """A tenant of a service whose database is behind the proxy."""

    tenant: Tenant
    http: HttpDriver
    batch: int = 2

    async def post(self, idempotency_key: str | None = None) -> httpx.Response:
        """Post a batch of events; fails if clients would have given up before the answer."""
        headers = {"Authorization": f"Bearer {self.tenant.key}"}
        if idempotency_key is not None:
            headers["Idempotency-Key"] = idempotency_key
        body = {"events": [event(), *[event("other")] * (self.batch - 1)]}
        begin = time.monotonic()
        response = await self.http.client.post("/api/v1/ingest/events", json=body, headers=headers)
        assert time.monotonic() - begin < GIVE_UP_SECONDS, "clients have given up by now"
        return response

    async def is_accepted(self, idempotency_key: str) -> bool:
        """Whether a post is answered with 202."""
        return (await self.post(idempotency_key)).status_code == 202

    async def is_ready(self) -> bool:
        """Whether the service says that it is."""
        return (await self.http.client.get("/readyz")).status_code == 200

    async def stored(self) -> int:
        """How many events are stored; as many are charged to the quota."""
        stored = len(await self.tenant.events())
        assert stored == await self.tenant.used(), "the quota is charged for what is stored"
        return stored


@pytest.fixture
def proxy(database_url: str) -> Iterator[PostgresProxy]:
    """The way to the test's own database."""
    with PostgresProxy(database_url) as proxy:
        yield proxy


@pytest.fixture
async def client(proxy: PostgresProxy, database_url: str) -> AsyncIterator[Client]:
    """A client of a service behind the proxy, which moves again in the end."""
    tenant = await make_tenant(database_url, IN_HOME_DATABASE)
    with RunningService(proxy.conninfo) as service:
        http = HttpDriver(service.addresses.http)
        yield Client(tenant, http)
        proxy.unfreeze()
        proxy.come_back()
        await http.close()


def check_unavailable(response: httpx.Response) -> None:
    """An internal error that says when to retry."""
    assert response.status_code == 500, response.text
    assert response.json()["error"]["code"] == "internal_error"
    assert int(response.headers["retry-after"]) >= 1
