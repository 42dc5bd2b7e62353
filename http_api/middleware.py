"""One HTTP request and its answer: what every response has, whatever becomes of the request.

This is the outermost ASGI layer, so that unknown routes and crashes have a request id as well. It
is plain ASGI: Starlette's BaseHTTPMiddleware costs more than the rest of the road together.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.clock import Clock
from core.counters import CANCELLED, OK, OTHER, Counters
from core.ids import new_request_id
from core.limits import API_VERSION
from core.models import Budget, Caller, Receipt, SnapshotReceipt
from http_api.paths import EVENTS_PATH, PING_PATH, SNAPSHOTS_PATH

log = logging.getLogger(__name__)

_KEY: Final = "wepeople.context"
# What metrics call the endpoints.
_ENDPOINTS: Final = {PING_PATH: "ping", EVENTS_PATH: "events", SNAPSHOTS_PATH: "snapshots"}


class RequestContext:
    """What the layers of one request tell each other."""

    __slots__ = ("budget", "caller", "code", "replayed", "request_id")

    def __init__(self, request_id: str) -> None:
        self.request_id = request_id
        self.caller: Caller | None = None
        self.budget: Budget | None = None  # once the key is known
        self.replayed = False
        self.code: str = OK  # of the error that answers it

    @staticmethod
    def of(scope: Scope) -> RequestContext:
        """The context of a request's scope."""
        context = scope[_KEY]
        assert isinstance(context, RequestContext)
        return context

    def settle(self, receipt: Receipt | SnapshotReceipt) -> None:
        """Answer with this receipt. A replay goes out in the first request's name, as its body."""
        self.request_id = receipt.request_id
        self.replayed = receipt.replayed

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The headers of contract section 3."""
        headers = [
            (b"x-request-id", self.request_id.encode()),
            (b"x-api-version", API_VERSION.encode()),
        ]
        if self.budget is not None:
            headers += [
                (b"x-ratelimit-limit", b"%d" % self.budget.limit),
                (b"x-ratelimit-remaining", b"%d" % self.budget.remaining),
            ]
        if self.replayed:
            headers.append((b"idempotency-replayed", b"true"))
        return headers


def new_context(clock: Clock) -> RequestContext:
    """The context of a request that just came in."""
    return RequestContext(new_request_id(clock.now_us()))


class RequestContextMiddleware:
    """Gives each request its id and each response its headers; logs what was answered.

    Requests go on to ``app``, or straight to one of its ``endpoints`` (by method and path), for
    which its own layers have nothing to do.
    """

    def __init__(
        self,
        app: ASGIApp,
        endpoints: Mapping[tuple[str, str], ASGIApp],
        clock: Clock,
        counters: Counters,
    ) -> None:
        self._app = app
        self._endpoints = endpoints
        self._clock = clock
        self._counters = counters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin = self._clock.monotonic()
        context = scope[_KEY] = new_context(self._clock)
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *context.headers()]
            await send(message)

        app = self._endpoints.get((scope["method"], scope["path"]), self._app)
        try:
            await app(scope, receive, send_with_headers)
        except Exception:
            # The 500 was sent by the application's own handler, which raises again after it.
            if not status:
                raise
        finally:
            endpoint = _ENDPOINTS.get(scope["path"], OTHER)
            # Without an answer the connection ended, or the time to drain did.
            self._counters.request("http", endpoint, context.code if status else CANCELLED)
        if log.isEnabledFor(logging.DEBUG):
            log.debug(
                "%s %s %d",
                scope["method"],
                scope["path"],
                status,
                extra={
                    "request_id": context.request_id,
                    "milliseconds": round((self._clock.monotonic() - begin) * 1_000, 3),
                },
            )
