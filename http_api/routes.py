"""The three endpoints: each checks the credential, reads the body, asks the core, sends JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from fastapi import FastAPI, Request, Response
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from core.access.shared_budget import Holding
from core.errors import IngestError
from core.ingest import Ingestor
from core.models import Caller, EventBatch, SnapshotRequest
from http_api.body import read_body
from http_api.cycle import WHOLE_ANSWER
from http_api.decoding import decode_events, decode_snapshot
from http_api.headers import RequestHeaders
from http_api.middleware import RequestContext
from http_api.paths import ENDPOINT_METHODS, EVENTS_PATH, PING_PATH, SNAPSHOTS_PATH
from http_api.schemas import render_ping, render_receipt, render_snapshot_receipt

# Returns the answer to a request whose handling raised an error.
Fail = Callable[[Scope, Exception], Response]


def add_ingest_routes(app: FastAPI, ingestor: Ingestor, fail: Fail) -> None:
    """Add the routes of ``/api/v1/ingest``."""
    endpoints = _Endpoints(ingestor)
    app.api_route(PING_PATH, methods=ENDPOINT_METHODS[PING_PATH])(endpoints.ping)
    app.router.routes += [
        Route(path, _DataEndpoint(handle, fail), methods=ENDPOINT_METHODS[path])
        for path, handle in (
            (EVENTS_PATH, endpoints.ingest_events),
            (SNAPSHOTS_PATH, endpoints.ingest_snapshot),
        )
    ]


class _Endpoints:
    """The three endpoints, each with the order of checks of contract section 4."""

    def __init__(self, ingestor: Ingestor) -> None:
        self._ingestor = ingestor

    async def ping(self, request: Request) -> Response:
        context = RequestContext.of(request.scope)
        caller = await self._admit(context, RequestHeaders(request.scope))
        status, body = render_ping(caller)
        return Response(body, status, media_type="application/json")

    async def ingest_events(
        self, context: RequestContext, headers: RequestHeaders, receive: Receive
    ) -> tuple[int, bytes]:
        caller, body, memory = await self._admit_body(context, headers, receive)
        try:
            events = await decode_events(body, self._ingestor.in_turns(caller))
            size_bytes = len(body)
            context.events = len(events)
        finally:
            memory.release()  # the core holds it from now on
        ingesting = self._ingestor.ingest(
            caller,
            EventBatch(
                context.request_id,
                events,
                headers.idempotency_key(),
                size_bytes=size_bytes,
                span=context.span,
            ),
        )
        del body, events  # frees their memory before the commit
        receipt = await ingesting
        context.take_over(receipt)
        return render_receipt(receipt)

    async def ingest_snapshot(
        self, context: RequestContext, headers: RequestHeaders, receive: Receive
    ) -> tuple[int, bytes]:
        caller, body, memory = await self._admit_body(context, headers, receive)
        try:
            snapshot = await decode_snapshot(body, self._ingestor.in_turns(caller))
        finally:
            memory.release()
        wanted = SnapshotRequest(
            context.request_id, snapshot, headers.idempotency_key(), len(body), context.span
        )
        receipt = await self._ingestor.ingest_snapshot(caller, wanted)
        context.take_over(receipt)
        return render_snapshot_receipt(receipt)

    async def _admit(self, context: RequestContext, headers: RequestHeaders) -> Caller:
        try:
            admitting = self._ingestor.admit(
                headers.authorization(), was_refused=context.was_refused
            )
            caller, context.budget = await context.wait_for(admitting)
        except IngestError as error:
            context.budget = error.budget
            raise
        context.caller = caller
        return caller

    async def _admit_body(
        self, context: RequestContext, headers: RequestHeaders, receive: Receive
    ) -> tuple[Caller, bytes, Holding]:
        """Admit the caller and read the body; the memory it takes is for the caller to release."""
        caller = await self._admit(context, headers)
        admitted_at = asyncio.get_running_loop().time()
        memory = self._ingestor.hold(caller)
        try:
            in_turn = partial(self._ingestor.begin_reading, caller)
            body = await read_body(headers, receive, memory, in_turn)
            caller = await self._ingestor.confirm(caller, headers.authorization(), admitted_at)
            headers.check_content_type()
        except BaseException:
            memory.release()
            raise
        return caller, body, memory


def data_endpoints(app: FastAPI) -> dict[tuple[str, str], ASGIApp]:
    """Return the endpoints that take data by method and path, to be called without ``app``."""
    return {
        (method, route.path): route.endpoint
        for route in app.routes
        if isinstance(route, Route) and isinstance(route.endpoint, _DataEndpoint)
        for method in route.methods or ()
    }


class _DataEndpoint:
    """An endpoint as a plain ASGI application, which answers its own failures.

    FastAPI's middleware, routing and parameters would double the cost of HTTP for a small request;
    :func:`data_endpoints` is the way past them.
    """

    def __init__(
        self,
        handle: Callable[[RequestContext, RequestHeaders, Receive], Awaitable[tuple[int, bytes]]],
        fail: Fail,
    ) -> None:
        self._handle = handle
        self._fail = fail

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        context = RequestContext.of(scope)
        try:
            status, body = await self._handle(context, RequestHeaders(scope), receive)
        except ClientDisconnect:
            return
        except Exception as error:
            refusal = self._fail(scope, error)
            status, body, headers = refusal.status_code, bytes(refusal.body), refusal.raw_headers
        else:
            headers = [
                (b"content-length", b"%d" % len(body)),
                (b"content-type", b"application/json"),
            ]
        await send({"type": WHOLE_ANSWER, "status": status, "headers": headers, "body": body})
