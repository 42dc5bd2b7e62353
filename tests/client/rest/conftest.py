"""Clients of both kinds, closed in the end."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.support.rest_client import CLIENTS, RestClient


class Connect:
    """Makes clients of one kind, with the arguments of :class:`Client`."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._clients: list[RestClient] = []

    def __call__(self, base_url: str, key: str, **options: Any) -> RestClient:
        client: RestClient = CLIENTS[self._kind](base_url, key, **options)
        self._clients.append(client)
        return client

    def transport(self, verify: ssl.SSLContext) -> httpx.BaseTransport | httpx.AsyncBaseTransport:
        """A transport for this kind of client."""
        if self._kind == "Client":
            return httpx.HTTPTransport(verify=verify)
        return httpx.AsyncHTTPTransport(verify=verify)

    async def close(self) -> None:
        """Close every client."""
        for client in self._clients:
            await client.close()


@pytest.fixture(params=CLIENTS)
async def connect(request: pytest.FixtureRequest) -> AsyncIterator[Connect]:
    """Clients of each kind in turn, closed in the end."""
    connect = Connect(request.param)
    yield connect
    await connect.close()
