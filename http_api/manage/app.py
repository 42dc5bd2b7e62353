"""The management API as one FastAPI application, which is mounted into the service's."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.admin.administration import Administration
from core.error_codes import OperatorCode
from core.errors import INTERNAL_MESSAGE
from core.limits import API_VERSION
from http_api import errors as http_errors
from http_api.manage import operator
from http_api.manage.errors import (
    EXPECTED_ERRORS,
    HTTP_STATUS,
    ManageError,
    manage_error,
)
from http_api.middleware import RequestContext

log = logging.getLogger(__name__)


def create_manage_app(administration: Administration, base_url: str) -> FastAPI:
    """Return the management API, for the path ``http_api.paths.MANAGE_PATH``."""
    app = FastAPI(
        title="WePeople management API",
        version=API_VERSION,
        summary="What operators read and change, for their tools.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        servers=[{"url": f"{base_url}/api/v1/manage"}],
        root_path_in_servers=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.administration = administration
    app.add_middleware(_Uncached)
    app.include_router(operator.router)
    _add_exception_handlers(app, base_url)
    return app


def _add_exception_handlers(app: FastAPI, base_url: str) -> None:
    def answer(request: Request, error: ManageError) -> Response:
        context = RequestContext.of(request.scope)
        context.code = error.code
        status = HTTP_STATUS[error.code]
        headers = {}
        if status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        if error.retry_after_seconds is not None:
            headers["Retry-After"] = str(error.retry_after_seconds)
        body = http_errors.envelope(error.code, error.message, context.request_id, base_url)
        return JSONResponse(body, status, headers)

    async def on_failure(request: Request, error: Exception) -> Response:
        known = manage_error(error)
        if known is None:
            request_id = RequestContext.of(request.scope).request_id
            log.error("crashed", exc_info=error, extra={"request_id": request_id})
            known = ManageError(OperatorCode.INTERNAL_ERROR, INTERNAL_MESSAGE)
        return answer(request, known)

    # Starlette raises again what it has a handler for Exception alone for.
    for kind in (Exception, *EXPECTED_ERRORS):
        app.add_exception_handler(kind, on_failure)

    @app.exception_handler(RequestValidationError)
    async def on_invalid(request: Request, error: RequestValidationError) -> Response:
        return answer(request, ManageError(OperatorCode.INVALID_VALUE, _problem(error.errors()[0])))

    @app.exception_handler(HTTPException)
    async def on_http_exception(request: Request, error: HTTPException) -> Response:
        if error.status_code == 405:
            allowed = ", ".join(sorted((error.headers or {}).get("Allow", "").split(", ")))
            return answer(
                request,
                ManageError(OperatorCode.METHOD_NOT_ALLOWED, f"This path takes {allowed} only."),
            )
        if error.status_code == 404:
            return answer(
                request, ManageError(OperatorCode.NOT_FOUND, "There is nothing at this path.")
            )
        return answer(request, ManageError(OperatorCode.INVALID_VALUE, str(error.detail)))


def _problem(error: dict[str, Any]) -> str:
    """Return the message for a member that pydantic refuses."""
    where, *path = error["loc"]
    member = ".".join(map(str, path)) or where
    return f"{member}: {error['msg']}"


class _Uncached:
    """Lets nobody keep an answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_uncached(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"cache-control", b"no-store")]
            await send(message)

        await self._app(scope, receive, send_uncached)
