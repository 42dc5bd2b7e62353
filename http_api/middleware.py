"""The context of a request, and the middleware that gives every response its headers.

The middleware is the outermost ASGI layer, so that unknown paths and crashes get a request id, too.
It is plain ASGI: Starlette's BaseHTTPMiddleware costs more than all layers below it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Container, Mapping
from functools import partial
from typing import Final, TypeAlias, TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.clock import Clock
from core.counters import CANCELLED, CONSOLE, MANAGE, OK, OTHER, Counters
from core.ids import new_request_id
from core.limits import API_VERSION
from core.models import Budget, Caller, Receipt, SnapshotReceipt
from core.refusal_log import RefusedRequest
from core.tracing import Span, Tracer, request_attributes
from http_api.cors import cors_headers
from http_api.cycle import WHOLE_ANSWER
from http_api.paths import (
    CONSOLE_PATH,
    EVENTS_PATH,
    MANAGE_PATH,
    PING_PATH,
    SNAPSHOTS_PATH,
    is_below,
)
from http_api.spans import begin_span

log = logging.getLogger(__name__)

T = TypeVar("T")

_KEY: Final = "wepeople.context"
WAS_REFUSED: Final = "wepeople.was_refused"  # in the scope, if RequestContext.was_refused
_VERSION: Final = (b"x-api-version", API_VERSION.encode())
# The names of the endpoints in metrics.
_ENDPOINTS: Final = {PING_PATH: "ping", EVENTS_PATH: "events", SNAPSHOTS_PATH: "snapshots"}


# The status, headers and body of an answer that is sent whole.
Answer: TypeAlias = tuple[int, list[tuple[bytes, bytes]], bytes]
# Answers a request; raises ClientDisconnect if nobody waits for that any more.
Endpoint: TypeAlias = "Callable[[Scope, RequestContext, Receive], Awaitable[Answer]]"


def _operators_endpoint(path: str) -> str:
    """Return the name of what operators use, or that of all else."""
    if is_below(path, MANAGE_PATH):
        return MANAGE
    return CONSOLE if is_below(path, CONSOLE_PATH) else OTHER


class RequestContext:
    """Facts about one request that its layers share."""

    __slots__ = (
        "_clock",
        "_waiting",
        "began_at",
        "budget",
        "caller",
        "code",
        "endpoint",
        "ends_with_client",
        "events",
        "replayed",
        "request_id",
        "span",
        "status",
        "was_refused",
    )

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.request_id = new_request_id(clock.now_us())
        self.began_at = clock.monotonic()
        self.endpoint = OTHER
        self.events: int | None = None  # in the batch, once it is read
        self.caller: Caller | None = None
        self.budget: Budget | None = None  # once the key is known
        self.replayed = False
        self.status = 0  # of the answer, once it is sent
        self.code: str = OK  # or the code of the error that answers it
        self.span: Span | None = None  # if traces are on
        self.was_refused = False  # the last key on the connection was nobody's
        self.ends_with_client = False  # an answer that has no end of its own
        self._waiting: asyncio.Task[object] | None = None

    @staticmethod
    def of(scope: Scope) -> RequestContext:
        """Return the context that the middleware put into a request's scope."""
        context = scope[_KEY]
        assert isinstance(context, RequestContext)
        return context

    @staticmethod
    def if_begun(scope: Scope) -> RequestContext | None:
        """Return the context of a request whose middleware may not have run yet."""
        context: RequestContext | None = scope.get(_KEY)
        return context

    async def wait_for(self, turn: Awaitable[T]) -> T:
        """Wait for the turn of the request; raises ClientDisconnect if abandoned meanwhile."""
        self._waiting = waiting = asyncio.current_task()
        try:
            return await turn
        except asyncio.CancelledError:
            if self._waiting is waiting:
                raise
            raise ClientDisconnect from None
        finally:
            self._waiting = None

    def abandon(self) -> None:
        """End the wait of a request whose client has gone: it would take a turn from others."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.cancel()

    def milliseconds(self) -> float:
        """Return how long the request has taken by now."""
        return round((self._clock.monotonic() - self.began_at) * 1_000, 3)

    def refused(self, status: int) -> RefusedRequest:
        """Return what is known of the request, for the log, once it is refused."""
        known = ("http", self.endpoint, str(int(status)), self.events)
        return RefusedRequest(self.request_id, *known, self.milliseconds())

    def end_span(self, status: int, code: str) -> None:
        """End the span of the request; ``status`` is 0 if no answer was sent."""
        assert self.span is not None
        attributes = request_attributes(self.request_id, self.caller, self.events)
        if status:
            attributes["http.response.status_code"] = status
        self.span.annotate(attributes)
        self.span.end(None if code == OK else code)

    def take_over(self, receipt: Receipt | SnapshotReceipt) -> None:
        """Take the request id from the receipt: a replay has the id of the first request."""
        self.request_id = receipt.request_id
        self.replayed = receipt.replayed

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the response headers of contract section 3."""
        headers = [
            (b"x-request-id", self.request_id.encode()),
            _VERSION,
        ]
        if self.budget is not None:
            headers += [
                (b"x-ratelimit-limit", b"%d" % self.budget.limit),
                (b"x-ratelimit-remaining", b"%d" % self.budget.remaining),
            ]
        if self.replayed:
            headers.append((b"idempotency-replayed", b"true"))
        if self.span is not None:
            headers.append((b"traceparent", self.span.traceparent.encode()))
        return headers


class RequestContextMiddleware:
    """Gives each request its id and each response its headers; counts and logs the answers.

    A request goes to what answers its method and path: one of the ``endpoints``, one of the
    ``pages``, or ``app``. Pages of any origin may read what is at ``documents``.
    """

    def __init__(
        self,
        app: ASGIApp,
        endpoints: Mapping[tuple[str, str], Endpoint],
        pages: Mapping[tuple[str, str], ASGIApp],
        documents: Container[str],
        clock: Clock,
        counters: Counters,
        tracer: Tracer | None,
    ) -> None:
        self._app = app
        self._endpoints = endpoints
        self._pages = pages
        self._documents = documents
        self._clock = clock
        self._counters = counters
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context = self._begin(scope)
        route = scope["method"], scope["path"]
        try:
            if (endpoint := self._endpoints.get(route)) is None:
                app = self._pages.get(route, self._app)
                await app(scope, receive, partial(self._send, scope, context, send))
            else:
                status, headers, body = await endpoint(scope, context, receive)
                message = {"type": WHOLE_ANSWER, "status": status, "headers": headers, "body": body}
                await self._send(scope, context, send, message)
        except ClientDisconnect:
            context.status = 0  # FastAPI has made an answer, which nobody got
        except Exception:
            # The handler of the application has sent the 500; Starlette raises again after it.
            if not context.status:
                raise
        finally:
            self._end(scope, context)

    def _begin(self, scope: Scope) -> RequestContext:
        context = RequestContext(self._clock)
        scope[_KEY] = context
        context.was_refused = WAS_REFUSED in scope
        path = scope["path"]
        if scope["method"] != "OPTIONS":  # which is a preflight
            context.endpoint = _ENDPOINTS.get(path) or _operators_endpoint(path)
        if self._tracer is not None and path in _ENDPOINTS:
            context.span = begin_span(self._tracer, scope)
        return context

    async def _send(
        self, scope: Scope, context: RequestContext, send: Send, message: Message
    ) -> None:
        if "status" in message:  # the first one
            context.status = message["status"]
            message["headers"] = [
                *message.get("headers", ()),
                *context.headers(),
                *cors_headers(scope, self._documents),
            ]
        await send(message)

    def _end(self, scope: Scope, context: RequestContext) -> None:
        # No status: the connection ended before the answer, or the time to drain did.
        code = context.code if context.status else CANCELLED
        seconds = self._clock.monotonic() - context.began_at
        self._counters.request("http", context.endpoint, code, seconds)
        if context.span is not None:
            context.end_span(context.status, code)
        if log.isEnabledFor(logging.DEBUG):
            log.debug(
                "%s %s %d",
                scope["method"],
                scope["path"],
                context.status,
                extra={
                    "request_id": context.request_id,
                    "milliseconds": round(seconds * 1_000, 3),
                },
            )
