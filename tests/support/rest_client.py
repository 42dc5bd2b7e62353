"""The two REST clients behind one interface, so that each test is one of both."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Protocol

from wepeople_ingest_client import AsyncClient, BatchResult, Client, PingResult, SnapshotResult
from wepeople_ingest_client.models import AnyEvent, AnySnapshot


class RestClient(Protocol):
    """The calls of a client, as coroutines."""

    async def ping(self) -> PingResult: ...

    async def ingest_events(
        self, events: Iterable[AnyEvent], *, idempotency_key: str | None = None
    ) -> BatchResult: ...

    async def ingest_snapshot(
        self, snapshot: AnySnapshot, *, idempotency_key: str | None = None
    ) -> SnapshotResult: ...

    async def close(self) -> None: ...


class ThreadedClient:
    """The blocking client, each call in a thread."""

    def __init__(self, base_url: str, key: str, **options: Any) -> None:
        self._client = Client(base_url, key, **options)

    async def ping(self) -> PingResult:
        return await asyncio.to_thread(self._client.ping)

    async def ingest_events(
        self, events: Iterable[AnyEvent], *, idempotency_key: str | None = None
    ) -> BatchResult:
        return await asyncio.to_thread(
            self._client.ingest_events, events, idempotency_key=idempotency_key
        )

    async def ingest_snapshot(
        self, snapshot: AnySnapshot, *, idempotency_key: str | None = None
    ) -> SnapshotResult:
        return await asyncio.to_thread(
            self._client.ingest_snapshot, snapshot, idempotency_key=idempotency_key
        )

    async def close(self) -> None:
        self._client.close()


CLIENTS: dict[str, type[ThreadedClient] | type[AsyncClient]] = {
    "Client": ThreadedClient,
    "AsyncClient": AsyncClient,
}
