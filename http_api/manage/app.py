"""The management API as one FastAPI application, which is mounted into the service's."""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic.alias_generators import to_camel
from starlette.exceptions import HTTPException
from starlette.types import Scope

from core.admin.administration import Administration
from core.error_codes import REFERENCE_PATH, OperatorCode
from core.errors import INTERNAL_MESSAGE
from core.limits import API_VERSION
from http_api import errors as http_errors
from http_api.attempts import Attempts
from http_api.manage import (
    apps,
    audit,
    events,
    keys,
    operator,
    organizations,
    rejections,
    snapshots,
    usage,
    workers,
)
from http_api.manage.bounds import MAX_BODY_BYTES, Bounded, Timed
from http_api.manage.errors import (
    EXPECTED_ERRORS,
    HTTP_STATUS,
    ManageError,
    manage_error,
)
from http_api.manage.models import Error
from http_api.middleware import RequestContext
from http_api.paths import MANAGE_PATH, OVERVIEW_PATH

log = logging.getLogger(__name__)


TAGS: Final = {
    "Operator": "The operator whose token a request has.",
    "Organizations": "The tenants: their plan, their quota, their rate.",
    "Apps": "The integrations of an organization, and the event types that each may send.",
    "Keys": "The API keys that apps authenticate with.",
    "Workers": "The people whom events and snapshots are about.",
    "Events": "The monitoring timeline.",
    "Snapshots": "Metric cards, the current ones and their history.",
    "Usage": "The month in numbers.",
    "Rejections": "Why requests and events were refused.",
    "Audit": "Who changed what, and when.",
}
ROUTERS: Final = (
    operator.router,
    organizations.router,
    apps.router,
    keys.router,
    workers.router,
    events.router,
    snapshots.router,
    usage.router,
    rejections.router,
    audit.router,
)
# Of every operation; the code in the envelope tells more.
_MEANINGS: Final[dict[int | str, str]] = {
    400: "A value breaks a rule.",
    401: "There is no token, or it cannot be used.",
    403: "The token's scope is `read`.",
    404: "Nothing has the id.",
    409: "The name is taken, or it does not fit what is there.",
    429: "Too many unknown tokens came from this address.",
    503: "The database, or the organization's cell, does not answer now.",
    "default": "Any other error.",
}
_ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": Error, "description": meaning} for status, meaning in _MEANINGS.items()
}


def create_manage_app(administration: Administration, base_url: str, attempts: Attempts) -> FastAPI:
    """Return the management API, for the path ``http_api.paths.MANAGE_PATH``."""
    app = FastAPI(
        title="WePeople management API",
        version=API_VERSION,
        summary="What operators read and change, for their tools.",
        description="Each error has the envelope of the ingest API, with codes of its own: "
        f"{base_url}{REFERENCE_PATH}#management-api.",
        contact={"name": "WePeople Developers", "url": f"{base_url}{OVERVIEW_PATH}"},
        openapi_tags=[{"name": name, "description": text} for name, text in TAGS.items()],
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        servers=[{"url": f"{base_url}{MANAGE_PATH}"}],
        root_path_in_servers=False,
        responses=_ERRORS,
        generate_unique_id_function=lambda route: to_camel(route.name),
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.administration = administration
    app.state.attempts = attempts

    def render(scope: Scope, error: ManageError) -> Response:
        return _error_response(scope, error, base_url)

    app.add_middleware(Timed, render=render)
    app.add_middleware(Bounded)
    for router in ROUTERS:
        app.include_router(router)
    _add_exception_handlers(app, render)
    return app


def _error_response(scope: Scope, error: ManageError, base_url: str) -> Response:
    context = RequestContext.of(scope)
    context.code = error.code
    status = HTTP_STATUS[error.code]
    headers = {}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(error.retry_after_seconds)
    body = http_errors.envelope(error.code, error.message, context.request_id, base_url)
    return JSONResponse(body, status, headers)


def _add_exception_handlers(app: FastAPI, render: Callable[[Scope, ManageError], Response]) -> None:
    async def on_failure(request: Request, error: Exception) -> Response:
        known = manage_error(error)
        if known is None:
            request_id = RequestContext.of(request.scope).request_id
            log.error("crashed", exc_info=error, extra={"request_id": request_id})
            known = ManageError(OperatorCode.INTERNAL_ERROR, INTERNAL_MESSAGE)
        return render(request.scope, known)

    # Starlette raises again what it has a handler for Exception alone for.
    for kind in (Exception, *EXPECTED_ERRORS):
        app.add_exception_handler(kind, on_failure)

    @app.exception_handler(RequestValidationError)
    async def on_invalid(request: Request, error: RequestValidationError) -> Response:
        problem = _problem(error.errors()[0])
        return render(request.scope, ManageError(OperatorCode.INVALID_VALUE, problem))

    @app.exception_handler(HTTPException)
    async def on_http_exception(request: Request, error: HTTPException) -> Response:
        return render(request.scope, _of_framework(error))


def _of_framework(error: HTTPException) -> ManageError:
    """Return what the framework refuses, in the words of the API."""
    match error.status_code:
        case HTTPStatus.METHOD_NOT_ALLOWED:
            allowed = ", ".join(sorted((error.headers or {}).get("Allow", "").split(", ")))
            message = f"This path takes {allowed} only."
            return ManageError(OperatorCode.METHOD_NOT_ALLOWED, message)
        case HTTPStatus.NOT_FOUND:
            return ManageError(OperatorCode.NOT_FOUND, "There is nothing at this path.")
        case HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            message = f"The body is over {MAX_BODY_BYTES} bytes."
            return ManageError(OperatorCode.BODY_TOO_LARGE, message)
    return ManageError(OperatorCode.INVALID_VALUE, str(error.detail))


def _problem(error: dict[str, Any]) -> str:
    """Return the message for a member that pydantic refuses."""
    where, *path = error["loc"]
    member = ".".join(map(str, path)) or where
    return f"{member}: {error['msg']}"
