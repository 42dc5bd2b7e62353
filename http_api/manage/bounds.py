"""The bounds of an operator's request: its body, its time, and that nobody keeps the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from fastapi import Response
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.error_codes import OperatorCode
from http_api.manage.errors import UNAVAILABLE_RETRY_SECONDS, ManageError

MAX_BODY_BYTES: Final = 65_536
# An answer is due within thirty; psycopg takes up to ten to cancel a statement of a hung server.
ANSWER_SECONDS: Final = 20.0


class Bounded:
    """Bounds the body of each request. HEAD is answered as GET, without the body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        size = 0

        async def receive_bounded() -> Message:
            nonlocal size
            if _declared(scope) > MAX_BODY_BYTES:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            message = await receive()
            size += len(message.get("body", b""))
            if size > MAX_BODY_BYTES:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return message

        async def send_uncached(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"cache-control", b"no-store")]
            await send(message)

        await self._app(scope, receive_bounded, send_uncached)


class Timed:
    """Bounds the time of each request until its answer begins."""

    def __init__(self, app: ASGIApp, render: Callable[[Scope, ManageError], Response]) -> None:
        self._app = app
        self._render = render

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def send_timed(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                if not timer.expired():
                    timer.reschedule(None)  # to read it, the client has time of its own
            await send(message)

        timer = asyncio.timeout(ANSWER_SECONDS)
        try:
            async with timer:
                await self._app(scope, receive, send_timed)
        except TimeoutError:
            if started:
                raise
            late = ManageError(
                OperatorCode.UNAVAILABLE,
                f"There is no answer within {ANSWER_SECONDS:g} s. What was begun may be done.",
                UNAVAILABLE_RETRY_SECONDS,
            )
            await self._render(scope, late)(scope, receive, send)


def _declared(scope: Scope) -> int:
    length = Headers(scope=scope).get("content-length", "")
    return int(length) if length.isascii() and length.isdigit() else 0
