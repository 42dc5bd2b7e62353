"""The REST client for programs with asyncio; see :class:`AsyncClient`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import TracebackType
from typing import TypeVar

import httpx

from wepeople_ingest_client.models import (
    AnyEvent,
    AnySnapshot,
    BatchResult,
    PingResult,
    SnapshotResult,
)
from wepeople_ingest_client.rest import calls
from wepeople_ingest_client.rest.http_io import (
    DEFAULT_TIMEOUT_SECONDS,
    AnswerReader,
    OneProcess,
    http_options,
    no_answer,
)
from wepeople_ingest_client.rest.retries import DEFAULT_RETRIES, Retries
from wepeople_ingest_client.rest.steps import Pause, Reply, Request, Steps

T = TypeVar("T")


class AsyncClient:
    """Does as :class:`~wepeople_ingest_client.Client`, in coroutines; an async context manager.

    Options, results and errors are the same; ``transport`` is one of httpx's for asyncio. The tasks
    of one event loop may share a client. A call that is cancelled may or may not have been carried
    out, as one without an answer.
    """

    def __init__(
        self,
        base_url: str,
        key: str,
        *,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
        retries: Retries = DEFAULT_RETRIES,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._timeout = timeout
        self._retries = retries
        self._process = OneProcess()
        self._http = httpx.AsyncClient(**http_options(base_url, key, timeout), transport=transport)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections. The client cannot be used any more."""
        await self._http.aclose()

    async def ping(self) -> PingResult:
        """Do as :meth:`wepeople_ingest_client.Client.ping`."""
        return await self._carry_out(calls.ping(self._retries))

    async def ingest_events(
        self, events: Iterable[AnyEvent], *, idempotency_key: str | None = None
    ) -> BatchResult:
        """Do as :meth:`wepeople_ingest_client.Client.ingest_events`."""
        return await self._carry_out(calls.ingest_events(events, idempotency_key, self._retries))

    async def ingest_snapshot(
        self, snapshot: AnySnapshot, *, idempotency_key: str | None = None
    ) -> SnapshotResult:
        """Do as :meth:`wepeople_ingest_client.Client.ingest_snapshot`."""
        return await self._carry_out(
            calls.ingest_snapshot(snapshot, idempotency_key, self._retries)
        )

    async def _carry_out(self, steps: Steps[T]) -> T:
        self._process.check()
        reply: Reply = None
        while True:
            try:
                step = steps.send(reply)
            except StopIteration as end:
                result: T = end.value
                return result
            if isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
                reply = None
            else:
                reply = await self._send(step)

    async def _send(self, request: Request) -> Reply:
        try:
            async with self._http.stream(
                request.method, request.path, headers=request.headers, content=request.body
            ) as response:
                reader = AnswerReader(response, self._timeout)
                async for piece in response.aiter_bytes():
                    reader.take(piece)
                return reader.answer()
        except httpx.RequestError as error:
            return no_answer(error)
