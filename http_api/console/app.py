"""The console as one application, which is mounted into the service's."""

from __future__ import annotations

import logging
from importlib.resources import files
from typing import Final
from urllib.parse import urlencode

from fastapi import FastAPI, Request, Response
from fastapi.responses import RedirectResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Route

from core.admin.administration import Administration
from core.counters import CANCELLED
from core.error_codes import OperatorCode
from core.errors import INTERNAL_MESSAGE
from http_api.attempts import Attempts
from http_api.console import (
    audit,
    developer,
    organizations,
    rejections,
    sign_in,
    timeline,
    usage,
    workers,
)
from http_api.console.rendering import error_page
from http_api.console.security import SignInNeededError
from http_api.console.views import Views
from http_api.documents import Document, prefers_html
from http_api.manage.bounds import Timed
from http_api.manage.errors import EXPECTED_ERRORS, ManageError, manage_error
from http_api.middleware import RequestContext
from http_api.paths import READING, SIGN_IN_PATH
from http_api.site import Site

log = logging.getLogger(__name__)

_MEDIA_TYPES: Final = {
    "console.css": "text/css; charset=utf-8",
    "console.js": "text/javascript; charset=utf-8",
}


def create_console_app(
    administration: Administration, views: Views, site: Site, attempts: Attempts
) -> FastAPI:
    """Return the console, for the path ``http_api.paths.CONSOLE_PATH``."""
    app = FastAPI(
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.administration = administration
    app.state.views = views
    app.state.attempts = attempts
    # Apart: a browser's tabs whose session has ended must not keep it from signing in.
    app.state.session_attempts = Attempts(administration.clock.monotonic)
    app.state.site = site._replace(demo_key=None)
    app.state.base_url = site.base_url
    for nouns in (sign_in, organizations, timeline, workers, developer, usage, rejections, audit):
        app.include_router(nouns.router)
    folder = files("http_api.console") / "assets"
    app.router.routes += [
        Route(
            f"/assets/{name}",
            Document((folder / name).read_bytes, media_type).answer,
            methods=READING,
        )
        for name, media_type in _MEDIA_TYPES.items()
    ]
    app.add_middleware(Timed, render=lambda scope, error: error_page(Request(scope), error))
    _add_exception_handlers(app)
    return app


def _add_exception_handlers(app: FastAPI) -> None:
    async def on_failure(request: Request, error: Exception) -> Response:
        context = RequestContext.of(request.scope)
        if isinstance(error, ClientDisconnect):
            context.code = CANCELLED
            return Response(status_code=400)  # which nobody reads
        known = manage_error(error)
        if known is None:
            log.error("crashed", exc_info=error, extra={"request_id": context.request_id})
            known = ManageError(OperatorCode.INTERNAL_ERROR, INTERNAL_MESSAGE)
        return error_page(request, known)

    # Starlette raises again what it has a handler for Exception alone for.
    for kind in (Exception, ClientDisconnect, *EXPECTED_ERRORS):
        app.add_exception_handler(kind, on_failure)

    @app.exception_handler(SignInNeededError)
    async def on_stranger(request: Request, error: SignInNeededError) -> Response:
        # Only a person who reads can sign in and go on; what a form sent would be lost.
        wants_page = prefers_html(request.headers.get("accept", ""))
        if request.method in READING and wants_page:
            RequestContext.of(request.scope).code = OperatorCode.MISSING_TOKEN
            query = f"?{request.url.query}" if request.url.query else ""
            wanted = urlencode({"next": f"{request.url.path}{query}"})
            return RedirectResponse(f"{SIGN_IN_PATH}?{wanted}", 303)
        return error_page(request, ManageError(OperatorCode.MISSING_TOKEN, str(error)))

    @app.exception_handler(HTTPException)
    async def on_http_exception(request: Request, error: HTTPException) -> Response:
        if error.status_code == 405:
            message = "This page is not sent a form, or is the answer to one."
            answer = error_page(request, ManageError(OperatorCode.METHOD_NOT_ALLOWED, message))
            allowed = (error.headers or {}).get("Allow", "")
            answer.headers["Allow"] = ", ".join(sorted(allowed.split(", ")))
            return answer
        return error_page(
            request, ManageError(OperatorCode.NOT_FOUND, "There is nothing at this address.")
        )
