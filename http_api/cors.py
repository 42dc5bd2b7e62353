"""What browsers let pages of other origins do here (the CORS protocol of the Fetch standard).

Pages of any origin may read the documents and call the three endpoints. The credential of an
endpoint is a bearer token that a page must have, never a cookie that a browser adds by itself, so
an origin has no rights of its own. Nothing else may be read from another origin.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Sequence
from http import HTTPStatus
from typing import Final

from fastapi import Response
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from http_api.paths import ENDPOINT_METHODS

PREFLIGHT_SECONDS: Final = 7_200  # the longest that Chromium keeps the answer to a preflight
REQUEST_HEADERS: Final = b"Authorization, Content-Type, Idempotency-Key"
RESPONSE_HEADERS: Final = (
    b"X-Request-Id, X-API-Version, X-RateLimit-Limit, X-RateLimit-Remaining, Retry-After, "
    b"Idempotency-Replayed, WWW-Authenticate"
)
_READABLE: Final = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", RESPONSE_HEADERS),
)


def cors_headers(scope: Scope, documents: Container[str]) -> Sequence[tuple[bytes, bytes]]:
    """Return the headers that let a page of another origin read the response, errors too.

    ``documents`` are the paths of those that any page may read. They have the headers always, for a
    cache may show one page the response to another.
    """
    path = scope["path"]
    if path in ENDPOINT_METHODS:
        for name, _ in scope["headers"]:
            if name == b"origin":
                return _READABLE
        return ()
    return _READABLE if path in documents else ()


class Preflight:
    """Answers the OPTIONS request that a browser sends before another, for one path.

    It looks at no credential and asks no database. An OPTIONS request that is no preflight goes to
    ``app``.
    """

    def __init__(
        self,
        app: ASGIApp,
        methods: Sequence[str],
        begin: Callable[[Scope], Awaitable[None]],
        fail: Callable[[Scope, Exception], Response],
    ) -> None:
        self._app = app
        self._begin = begin
        self._fail = fail
        self._headers = [
            (b"access-control-allow-methods", ", ".join(methods).encode()),
            (b"access-control-allow-headers", REQUEST_HEADERS),
            (b"access-control-max-age", b"%d" % PREFLIGHT_SECONDS),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        names = {name for name, _ in scope["headers"]}
        if not {b"origin", b"access-control-request-method"} <= names:
            await self._app(scope, receive, send)
            return
        try:
            await self._begin(scope)
        except ClientDisconnect:
            raise
        except Exception as error:
            await self._fail(scope, error)(scope, receive, send)
            return
        status = HTTPStatus.NO_CONTENT
        await send({"type": "http.response.start", "status": status, "headers": self._headers})
        await send({"type": "http.response.body", "body": b""})
