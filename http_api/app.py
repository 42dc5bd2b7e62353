"""The HTTP application: the ingest routes, the documents, health, and errors in one envelope."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Iterable
from functools import partial
from http import HTTPStatus
from typing import Final

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.responses import RedirectResponse
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from core.admin.administration import Administration
from core.clock import Clock
from core.counters import Counters
from core.error_codes import REFERENCE_PATH, ErrorCode
from core.errors import INTERNAL_MESSAGE, IngestError, log_internal
from core.ingest import Ingestor
from core.tracing import Tracer
from http_api import errors
from http_api.attempts import Attempts
from http_api.console.app import create_console_app
from http_api.console.organizations import PATH as ORGANIZATIONS_PATH
from http_api.console.views import Views
from http_api.cors import Preflight
from http_api.docs import portal
from http_api.documents import HTML, PAGE_HEADERS, prefers_html
from http_api.manage.app import create_manage_app
from http_api.middleware import RequestContext, RequestContextMiddleware
from http_api.operator_pages import Metrics, Readiness, add_operator_pages
from http_api.paths import (
    CONSOLE_PATH,
    ENDPOINT_METHODS,
    MANAGE_PATH,
    PING_PATH,
    READING,
    both_spellings,
    is_api,
)
from http_api.routes import Fail, add_ingest_routes
from http_api.site import Site

log = logging.getLogger(__name__)

PAGE_UNITS: Final = 8  # a page costs as much as so many small requests


def create_app(
    ingestor: Ingestor,
    readiness: Readiness,
    metrics: Metrics,
    counters: Counters,
    site: Site,
    clock: Clock,
    tracer: Tracer | None = None,
    administration: Administration | None = None,
    views: Views | None = None,
) -> ASGIApp:
    """Return the HTTP API as one ASGI application; without ``administration`` not for operators.

    The console is there if it has ``views``, too.

    Links in errors and documents begin with the base URL of ``site``.
    """
    # FastAPI would derive documents from its routes; ours are written by hand (http_api/docs).
    app = FastAPI(
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # /metrics and the log are ours; FastAPI would look for a provider at each request.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )

    fail = _failure_renderer(ingestor, site.base_url)
    endpoints = add_ingest_routes(app, ingestor, fail)
    app.add_middleware(_FairTurns, ingestor=ingestor)
    operator_pages = add_operator_pages(app, readiness, metrics, ingestor, fail)
    if administration is not None:
        attempts = Attempts(clock.monotonic)
        app.mount(MANAGE_PATH, create_manage_app(administration, site.base_url, attempts))
        if views is not None:
            _mount_console(app, create_console_app(administration, views, site, attempts))
    documents = _add_document_routes(app, site)
    _add_exception_handlers(app, fail, site.base_url)
    pages = operator_pages | _preflights(app, documents, ingestor, fail)
    return RequestContextMiddleware(app, endpoints, pages, documents, clock, counters, tracer)


def _mount_console(app: FastAPI, console: FastAPI) -> None:
    to_first_page = partial(_redirect, f"{CONSOLE_PATH}{ORGANIZATIONS_PATH}")
    for spelling in both_spellings(CONSOLE_PATH):
        app.router.routes.append(Route(spelling, to_first_page, methods=READING))
    app.mount(CONSOLE_PATH, console)


def _failure_renderer(ingestor: Ingestor, base_url: str) -> Fail:
    def fail(scope: Scope, error: Exception) -> Response:
        context = RequestContext.of(scope)
        if isinstance(error, IngestError):
            log_internal(log, error, context.request_id)
            refused = context.refused(errors.HTTP_STATUS[error.code])
            ingestor.note_refusal(error, refused, context.caller)
            context.budget = error.budget or context.budget
        else:
            if isinstance(error, ClientDisconnect):
                log.debug("the client went away", extra={"request_id": context.request_id})
            else:
                log.error("crashed", exc_info=error, extra={"request_id": context.request_id})
            error = IngestError(ErrorCode.INTERNAL_ERROR, INTERNAL_MESSAGE)
        context.code = error.code
        status, body, headers = errors.render_error(error, context.request_id, base_url)
        return _error_response(scope, status, error.code.value, error.message, body, headers)

    return fail


def _error_response(
    scope: Scope, status: int, code: str, message: str, body: bytes, headers: dict[str, str]
) -> Response:
    """Return the envelope, or outside of the API a page for a browser."""
    if is_api(scope["path"]):
        return Response(body, status, headers, media_type="application/json")
    headers = headers | {"vary": "Accept"}
    if prefers_html(",".join(Headers(scope=scope).getlist("accept"))):
        request_id = RequestContext.of(scope).request_id
        page = portal.error_page(status, code, message, request_id)
        return Response(page, status, headers | PAGE_HEADERS, media_type=HTML)
    return Response(body, status, headers, media_type="application/json")


def _add_document_routes(app: FastAPI, site: Site) -> frozenset[str]:
    """Add the pages and documents, each with and without a slash at its end.

    Returns the paths of those that pages of any origin may read.
    """
    documents = portal.documents(site)
    app.router.routes += [
        Route(spelling, document.answer, methods=READING)
        for path, document in documents.items()
        for spelling in both_spellings(path)
    ]
    app.router.routes += [
        Route(spelling, partial(_redirect, target), methods=READING)
        for path, target in portal.REDIRECTS.items()
        for spelling in both_spellings(path)
    ]
    return frozenset(
        spelling
        for path, document in documents.items()
        if document.is_public
        for spelling in both_spellings(path)
    )


async def _redirect(target: str, request: Request) -> Response:
    return RedirectResponse(target)


def _preflights(
    app: FastAPI, documents: Iterable[str], ingestor: Ingestor, fail: Fail
) -> dict[tuple[str, str], ASGIApp]:
    """Return what answers the preflights of browsers by method and path, past FastAPI's layers."""

    def begin(scope: Scope) -> Awaitable[None]:
        return RequestContext.of(scope).wait_for(ingestor.begin_unkeyed(1))

    methods = ENDPOINT_METHODS | dict.fromkeys(documents, READING)
    return {
        ("OPTIONS", path): Preflight(app, allowed, begin, fail) for path, allowed in methods.items()
    }


def _add_exception_handlers(app: FastAPI, fail: Fail, base_url: str) -> None:
    @app.exception_handler(IngestError)
    @app.exception_handler(Exception)
    async def on_failure(request: Request, error: Exception) -> Response:
        return fail(request.scope, error)

    @app.exception_handler(HTTPException)
    async def on_http_exception(request: Request, error: HTTPException) -> Response:
        code, message = {
            HTTPStatus.NOT_FOUND: (
                errors.NOT_FOUND,
                f"There is nothing here. The reference is at {REFERENCE_PATH}.",
            ),
            HTTPStatus.METHOD_NOT_ALLOWED: (
                errors.METHOD_NOT_ALLOWED,
                "This path has other methods; see the Allow header.",
            ),
        }.get(HTTPStatus(error.status_code), (ErrorCode.INVALID_BODY.value, str(error.detail)))
        context = RequestContext.of(request.scope)
        context.code = code
        body = msgspec.json.encode(errors.envelope(code, message, context.request_id, base_url))
        headers = dict(error.headers or {})
        if "Allow" in headers:  # made of a set, in any order
            headers["Allow"] = ", ".join(sorted(headers["Allow"].split(", ")))
        return _error_response(request.scope, error.status_code, code, message, body, headers)


class _FairTurns:
    """Has requests wait for their turn, but for pings, which wait in ``admit``."""

    def __init__(self, app: ASGIApp, ingestor: Ingestor) -> None:
        self._app = app
        self._ingestor = ingestor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _is_ping(scope):
            turn = self._ingestor.begin_unkeyed(PAGE_UNITS)
            try:
                await RequestContext.of(scope).wait_for(turn)
            except ClientDisconnect:
                return
        await self._app(scope, receive, send)


def _is_ping(scope: Scope) -> bool:
    return scope["path"] == PING_PATH and scope["method"] in ENDPOINT_METHODS[PING_PATH]
