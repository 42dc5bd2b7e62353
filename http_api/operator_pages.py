"""Health and metrics: for the operator's network, without a key, and not in the reference."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus
from typing import Final, NamedTuple

import msgspec
from fastapi import FastAPI, Response
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from core.ingest import Ingestor
from http_api.documents import DOCUMENT_HEADERS
from http_api.middleware import RequestContext
from http_api.paths import READING
from http_api.routes import Fail

LIVENESS_PATH: Final = "/healthz"
READINESS_PATH: Final = "/readyz"
METRICS_PATH: Final = "/metrics"

# Returns why the service cannot take traffic now, or None if it can.
Readiness = Callable[[], Awaitable[str | None]]


class Metrics(NamedTuple):
    """The page of metrics; ``renew`` returns once the ``latest`` is newer than the call."""

    renew: Callable[[], Awaitable[None]]
    latest: Callable[[], bytes]
    media_type: str


def add_operator_pages(
    app: FastAPI, readiness: Readiness, metrics: Metrics, ingestor: Ingestor, fail: Fail
) -> dict[tuple[str, str], ASGIApp]:
    """Add the pages; returns what answers them by method and path, past the layers of ``app``."""

    async def healthz() -> Response:
        return _json(HTTPStatus.OK, {"status": "ok"})

    async def readyz() -> Response:
        problem = await readiness()
        if problem is None:
            return _json(HTTPStatus.OK, {"status": "ready"})
        return _json(HTTPStatus.SERVICE_UNAVAILABLE, {"status": "not ready", "reason": problem})

    async def metrics_page() -> Response:
        return Response(
            metrics.latest(), headers={**DOCUMENT_HEADERS, "content-type": metrics.media_type}
        )

    turn = partial(ingestor.begin_unkeyed, 1)

    async def turn_with_metrics() -> None:
        # Before the turn: those who wait for one rendering are answered a few in each turn.
        await metrics.renew()
        await turn()

    pages = {
        LIVENESS_PATH: _OperatorPage(healthz, turn, fail),
        READINESS_PATH: _OperatorPage(readyz, turn, fail),
        METRICS_PATH: _OperatorPage(metrics_page, turn_with_metrics, fail),
    }
    for path, page in pages.items():
        app.router.routes.append(Route(path, page, methods=READING))
    return {(method, path): page for path, page in pages.items() for method in READING}


def _json(status: int, body: object) -> Response:
    return Response(msgspec.json.encode(body), status, media_type="application/json")


class _OperatorPage:
    """A page as a plain ASGI application, for those who ask often and do not wait.

    It is answered in the turn that ``begin`` waits for.
    """

    def __init__(
        self,
        answer: Callable[[], Awaitable[Response]],
        begin: Callable[[], Awaitable[None]],
        fail: Fail,
    ) -> None:
        self._answer = answer
        self._begin = begin
        self._fail = fail

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        context = RequestContext.of(scope)
        try:
            await context.wait_for(self._begin())
            response = await self._answer()
        except ClientDisconnect:
            raise
        except Exception as error:
            response = self._fail(scope, error)
        await response(scope, receive, send)
