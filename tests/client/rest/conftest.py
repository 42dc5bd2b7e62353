"""Clients of both kinds, closed in the end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.support.rest_client import CLIENTS, RestClient

Connect = Callable[..., RestClient]


@pytest.fixture(params=CLIENTS)
async def connect(request: pytest.FixtureRequest) -> AsyncIterator[Connect]:
    """Makes clients of each kind in turn, with the arguments of :class:`Client`."""
    clients: list[RestClient] = []

    def make(base_url: str, key: str, **options: Any) -> RestClient:
        client: RestClient = CLIENTS[request.param](base_url, key, **options)
        clients.append(client)
        return client

    yield make
    for client in clients:
        await client.close()
