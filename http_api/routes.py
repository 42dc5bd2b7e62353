"""The three endpoints: credential, body, core, JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from core.auth import MAX_CALLER_AGE_SECONDS
from core.errors import IngestError
from core.events import Caller, EventBatch, SnapshotRequest
from core.ingest import Ingestor
from http_api.body import read_body
from http_api.decoding import decode_events, decode_snapshot
from http_api.exchange import Exchange
from http_api.head import Head
from http_api.openapi.operations import EVENTS_PATH, PING_PATH, SNAPSHOTS_PATH
from http_api.schemas import render_ping, render_receipt, render_snapshot_receipt

# The answer to a request that raised this.
Fail = Callable[[Exchange, Exception], Response]


def add_ingest_routes(app: FastAPI, ingestor: Ingestor, fail: Fail) -> None:
    """The routes of ``/api/v1/ingest``, in the order of checks of contract section 4."""

    async def admit(exchange: Exchange, head: Head) -> Caller:
        try:
            caller, exchange.budget = await ingestor.admit(head.authorization())
        except IngestError as error:
            exchange.budget = error.budget
            raise
        exchange.caller = caller
        return caller

    async def admit_body(exchange: Exchange, head: Head, receive: Receive) -> tuple[Caller, bytes]:
        caller = await admit(exchange, head)
        loop = asyncio.get_running_loop()
        admitted = loop.time()
        body = await read_body(head, receive)
        # A body may take its time: what counts are the rights in force when it is there.
        if loop.time() - admitted > MAX_CALLER_AGE_SECONDS:
            caller = await ingestor.authenticate(head.authorization())
        head.check_content_type()
        return caller, body

    @app.get(PING_PATH)
    async def ping(request: Request) -> Response:
        caller = await admit(Exchange.of(request.scope), Head(request.scope))
        status, body = render_ping(caller)
        return Response(body, status, media_type="application/json")

    async def ingest_events(exchange: Exchange, head: Head, receive: Receive) -> tuple[int, bytes]:
        caller, body = await admit_body(exchange, head, receive)
        events, size_bytes = decode_events(body), len(body)
        writing = ingestor.ingest(
            caller,
            EventBatch(exchange.request_id, events, head.idempotency_key(), size_bytes=size_bytes),
        )
        del body, events  # not held until the commit
        receipt = await writing
        exchange.settle(receipt)
        return render_receipt(receipt)

    async def ingest_snapshot(
        exchange: Exchange, head: Head, receive: Receive
    ) -> tuple[int, bytes]:
        caller, body = await admit_body(exchange, head, receive)
        wanted = SnapshotRequest(
            exchange.request_id, decode_snapshot(body), head.idempotency_key(), len(body)
        )
        receipt = await ingestor.ingest_snapshot(caller, wanted)
        exchange.settle(receipt)
        return render_snapshot_receipt(receipt)

    app.router.routes += [
        Route(EVENTS_PATH, _DataEndpoint(ingest_events, fail), methods=["POST"]),
        Route(SNAPSHOTS_PATH, _DataEndpoint(ingest_snapshot, fail), methods=["POST"]),
    ]


def data_endpoints(app: FastAPI) -> dict[tuple[str, str], ASGIApp]:
    """The application's routes that take data, by method and path; they need nothing of it."""
    return {
        (method, route.path): route.endpoint
        for route in app.routes
        if isinstance(route, Route) and isinstance(route.endpoint, _DataEndpoint)
        for method in route.methods or ()
    }


class _DataEndpoint:
    """An endpoint as plain ASGI, which answers its own failures.

    So it can be called without FastAPI, whose middleware, routing and parameters cost a small
    request as much as all else that is HTTP.
    """

    def __init__(
        self,
        handle: Callable[[Exchange, Head, Receive], Awaitable[tuple[int, bytes]]],
        fail: Fail,
    ) -> None:
        self._handle = handle
        self._fail = fail

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        try:
            status, body = await self._handle(exchange, Head(scope), receive)
        except Exception as error:
            await self._fail(exchange, error)(scope, receive, send)
            return
        headers = [
            (b"content-length", b"%d" % len(body)),
            (b"content-type", b"application/json"),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
