"""The three endpoints: credential, body, core, JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from core.auth import MAX_CALLER_AGE_SECONDS
from core.errors import IngestError
from core.events import Caller, EventBatch, SnapshotRequest
from core.ingest import Ingestor
from http_api.body import read_body
from http_api.decoding import decode_events, decode_snapshot, invalid_body
from http_api.exchange import Exchange
from http_api.openapi.operations import EVENTS_PATH, PING_PATH, SNAPSHOTS_PATH
from http_api.schemas import render_ping, render_receipt, render_snapshot_receipt


def add_ingest_routes(app: FastAPI, ingestor: Ingestor) -> None:
    """The routes of ``/api/v1/ingest``, in the order of checks of contract section 4.

    Those that take data are plain ASGI: FastAPI's own resolve dependencies and parameters, which
    these have not, and cost a small request a fifth of all it costs. The application handles what
    they raise all the same. Added to the application itself: a router included in it is looked up
    twice a request.
    """

    async def admit(request: Request) -> Caller:
        exchange = Exchange.of(request.scope)
        try:
            caller, exchange.budget = await ingestor.admit(_authorization(request))
        except IngestError as error:
            exchange.budget = error.budget
            raise
        exchange.caller = caller
        return caller

    async def receive(request: Request) -> tuple[Caller, bytes]:
        caller = await admit(request)
        loop = asyncio.get_running_loop()
        admitted = loop.time()
        body = await read_body(request)
        # A body may take its time: what counts are the rights in force when it is there.
        if loop.time() - admitted > MAX_CALLER_AGE_SECONDS:
            caller = await ingestor.authenticate(_authorization(request))
        return caller, body

    @app.get(PING_PATH)
    async def ping(request: Request) -> Response:
        status, body = render_ping(await admit(request))
        return Response(body, status, media_type="application/json")

    async def ingest_events(request: Request) -> tuple[int, bytes]:
        caller, body = await receive(request)
        _check_content_type(request)
        exchange = Exchange.of(request.scope)
        batch = EventBatch(
            exchange.request_id,
            decode_events(body),
            _idempotency_key(request),
            size_bytes=len(body),
        )
        coro = ingestor.ingest(caller, batch)
        del batch, body
        receipt = await coro
        exchange.settle(receipt)
        return render_receipt(receipt)

    async def ingest_snapshot(request: Request) -> tuple[int, bytes]:
        caller, body = await receive(request)
        _check_content_type(request)
        exchange = Exchange.of(request.scope)
        wanted = SnapshotRequest(
            exchange.request_id, decode_snapshot(body), _idempotency_key(request), len(body)
        )
        receipt = await ingestor.ingest_snapshot(caller, wanted)
        exchange.settle(receipt)
        return render_snapshot_receipt(receipt)

    app.router.routes += [
        Route(EVENTS_PATH, _Endpoint(ingest_events), methods=["POST"]),
        Route(SNAPSHOTS_PATH, _Endpoint(ingest_snapshot), methods=["POST"]),
    ]


class _Endpoint:
    """A handler, which answers with a status and JSON, as an ASGI application."""

    def __init__(self, handle: Callable[[Request], Awaitable[tuple[int, bytes]]]) -> None:
        self._handle = handle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        status, body = await self._handle(Request(scope, receive))
        headers = [
            (b"content-length", b"%d" % len(body)),
            (b"content-type", b"application/json"),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _authorization(request: Request) -> str | None:
    values = request.headers.getlist("authorization")
    # Two credentials are none: whichever we took, the client may have meant the other.
    return ", ".join(values) if values else None


def _idempotency_key(request: Request) -> str | None:
    values = request.headers.getlist("idempotency-key")
    if len(values) > 1:
        raise invalid_body("Idempotency-Key: must be sent once")
    if not values:
        return None
    try:
        # Header bytes reach us as Latin-1; clients that send more than ASCII send UTF-8.
        return values[0].encode("latin-1").decode()
    except UnicodeDecodeError:
        return values[0]


def _check_content_type(request: Request) -> None:
    media_type, *parameters = request.headers.get("content-type", "").lower().split(";")
    if media_type.strip() != "application/json":
        raise invalid_body("Content-Type: must be application/json")
    for parameter in parameters:
        name, _, value = parameter.strip().partition("=")
        if name == "charset" and value.strip('"') not in ("utf-8", "utf8"):
            raise invalid_body("Content-Type: the charset must be utf-8")
