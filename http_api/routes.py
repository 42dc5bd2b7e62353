"""The three endpoints: each checks the credential, reads the body, asks the core, sends JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Generic, TypeVar

from fastapi import FastAPI, Request, Response
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import Receive, Scope

from core.ingest import Ingestor
from core.models import (
    Event,
    EventBatch,
    Malformed,
    Receipt,
    Snapshot,
    SnapshotReceipt,
    SnapshotRequest,
)
from core.rules.event_batch import check_count
from core.slices import InTurns
from http_api.body import read_body
from http_api.decoding import decode_events, decode_snapshot
from http_api.headers import RequestHeaders
from http_api.middleware import Answer, Endpoint, RequestContext
from http_api.paths import ENDPOINT_METHODS, EVENTS_PATH, PING_PATH, SNAPSHOTS_PATH
from http_api.schemas import render_ping, render_receipt, render_snapshot_receipt

D = TypeVar("D")  # what a body is decoded to
R = TypeVar("R", bound=Receipt | SnapshotReceipt)

# Returns the answer to a request whose handling raised an error.
Fail = Callable[[Scope, Exception], Response]


def add_ingest_routes(
    app: FastAPI, ingestor: Ingestor, fail: Fail
) -> dict[tuple[str, str], Endpoint]:
    """Add the routes of ``/api/v1/ingest``.

    Returns the endpoints that take data by method and path. They are to be called without ``app``:
    FastAPI's middleware, routing and parameters would double the cost of HTTP for a small request.
    """

    @app.api_route(PING_PATH, methods=ENDPOINT_METHODS[PING_PATH])
    async def ping(request: Request) -> Response:
        context = RequestContext.of(request.scope)
        admitting = ingestor.admit(
            RequestHeaders(request.scope).authorization(), was_refused=context.was_refused
        )
        caller, context.budget = await context.wait_for(admitting)
        context.caller = caller
        status, body = render_ping(caller)
        return Response(body, status, media_type="application/json")

    events = _DataEndpoint(ingestor, fail, decode_events, _store_events, render_receipt)
    snapshots = _DataEndpoint(
        ingestor, fail, decode_snapshot, _store_snapshot, render_snapshot_receipt
    )
    endpoints: dict[str, Endpoint] = {EVENTS_PATH: events, SNAPSHOTS_PATH: snapshots}
    for path in endpoints:  # for the answer to other methods
        app.router.routes.append(Route(path, _called_without_app, methods=ENDPOINT_METHODS[path]))
    return {
        (method, path): endpoint
        for path, endpoint in endpoints.items()
        for method in ENDPOINT_METHODS[path]
    }


async def _called_without_app(request: Request) -> Response:
    raise NotImplementedError


class _DataEndpoint(Generic[D, R]):
    """An endpoint that takes data, with the order of checks of contract section 4.

    It answers its own failures. All of it is one coroutine: each that awaits another is resumed
    with it, whenever the request waits.
    """

    def __init__(
        self,
        ingestor: Ingestor,
        fail: Fail,
        decode: Callable[[bytes, InTurns], Awaitable[D]],
        store: Callable[[Ingestor, RequestContext, RequestHeaders, D, int], Awaitable[R]],
        render: Callable[[R], tuple[int, bytes]],
    ) -> None:
        self._ingestor = ingestor
        self._fail = fail
        self._decode = decode
        self._store = store
        self._render = render

    async def __call__(self, scope: Scope, context: RequestContext, receive: Receive) -> Answer:
        """Answer one request; raises ClientDisconnect if nobody waits for that any more."""
        ingestor = self._ingestor
        try:
            headers = RequestHeaders(scope)
            authorization = headers.authorization()
            admitting = ingestor.admit(authorization, was_refused=context.was_refused)
            caller, context.budget = await context.wait_for(admitting)
            context.caller = caller
            admitted_at = asyncio.get_running_loop().time()
            memory = ingestor.hold(caller)
            try:
                in_turn = partial(ingestor.begin_reading, caller)
                body = await read_body(headers, receive, memory, in_turn)
                context.caller = await ingestor.confirm(caller, authorization, admitted_at)
                headers.check_content_type()
                decoded = await self._decode(body, ingestor.in_turns(caller))
            finally:
                memory.release()  # the core holds it from now on
            storing = self._store(ingestor, context, headers, decoded, len(body))
            del body, decoded  # frees their memory before the commit
            receipt = await storing
            context.take_over(receipt)
            status, text = self._render(receipt)
        except ClientDisconnect:
            raise
        except Exception as error:
            refusal = self._fail(scope, error)
            return refusal.status_code, refusal.raw_headers, bytes(refusal.body)
        length = (b"content-length", b"%d" % len(text))
        return status, [length, (b"content-type", b"application/json")], text


def _store_events(
    ingestor: Ingestor,
    context: RequestContext,
    headers: RequestHeaders,
    events: Sequence[Event | Malformed],
    size_bytes: int,
) -> Awaitable[Receipt]:
    context.events = len(events)
    assert context.caller is not None
    check_count(len(events))  # comes before the key
    key = headers.idempotency_key()
    batch = EventBatch(context.request_id, events, key, size_bytes=size_bytes, span=context.span)
    return ingestor.ingest(context.caller, batch)


def _store_snapshot(
    ingestor: Ingestor,
    context: RequestContext,
    headers: RequestHeaders,
    snapshot: Snapshot,
    size_bytes: int,
) -> Awaitable[SnapshotReceipt]:
    assert context.caller is not None
    key = headers.idempotency_key()
    wanted = SnapshotRequest(context.request_id, snapshot, key, size_bytes, context.span)
    return ingestor.ingest_snapshot(context.caller, wanted)
