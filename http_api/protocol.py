"""One HTTP connection: uvicorn's, with the bounds that uvicorn does not have.

This module, http_api/parsing.py and http_api/cycle.py are the only ones that rely on internals of
uvicorn's connections. Each is named in tests/http_api/test_uvicorn_internals.py, which fails when
one changes.
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

from starlette.types import Scope
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from core.access.shared_budget import overloaded
from core.error_codes import STRANGERS_CODES, ErrorCode
from core.errors import IngestError
from http_api.connections import Connections
from http_api.cycle import CLOSE, render
from http_api.middleware import WAS_REFUSED, RequestContext
from http_api.parsing import RequestParser

MAX_HEAD_SECONDS: Final = 10.0
MAX_UNREAD_SECONDS: Final = 10.0  # without progress
# For requests that are on their way when the service stops; answers then end their connection.
STOP_LINGER_SECONDS: Final = 0.5


class HttpProtocol(RequestParser):
    """A client's connection, with bounds on its number, its time and its memory.

    A connection for which there is no place is answered with 500. A head that is too slow closes
    the connection; so do trailers and the rest of a body that was answered before it had come.

    Pipelined requests are read only until one has to wait for an earlier answer, or for the client
    to read an earlier answer. An answer that the client does not read ends the connection. A client
    that ends its own side of the connection gets the answers to the requests that came whole.

    Bytes that are not HTTP are answered with 400 in the envelope of contract section 3, but never
    in place of the answer to an earlier request.
    """

    places: Connections  # all connections of the server
    flow: _RequestFlowControl
    _send_by: float | None = None  # when the client has sent the rest of a head, or is cut off
    _idle_until: float | None = None  # when a connection without a request is closed
    _ended_by_client = False
    _begun: RequestResponseCycle | None = None  # the latest request that an answer was begun for
    _was_refused = False  # the last key was nobody's
    _unsent_bytes = 0  # when _check_reading last looked
    _unsent_since = 0.0

    def render_refusal(self, error: IngestError) -> tuple[RequestContext, int, bytes]:
        """Return the context, status and body of the answer to a connection that is refused."""
        raise NotImplementedError

    # --- the connection ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = _RequestFlowControl(transport, self)
        if self.places.add(self):
            self._expect_head()
        else:
            self._refuse(overloaded())

    def connection_lost(self, exc: Exception | None) -> None:
        self.places.remove(self)
        self._disconnect()
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep the connection open while a request that came whole has no answer yet.

        An answer without an end of its own is none that a client waits for.
        """
        self._ended_by_client = True
        context = self._context()
        if context is not None and context.ends_with_client and not self._is_answered():
            return False
        # TLS has no connection of which one side is closed.
        return self.scheme == "http" and not self._is_over()

    def is_authenticated(self) -> bool:
        """Whether the key of the request under way is known by now."""
        context = self._context()
        return not self._is_answered() and context is not None and context.caller is not None

    def _context(self) -> RequestContext | None:
        """Return the context of the request that an answer was begun for, if it has one by now."""
        if self._begun is None:
            return None
        return RequestContext.if_begun(cast("Scope", self._begun.scope))

    def evict(self) -> None:
        """End the connection, and leave unanswered what it asked for."""
        self._disconnect()
        if self.transport.get_write_buffer_size():
            self.transport.abort()  # who does not read an answer could stay for long
        else:
            self.transport.close()

    def check_time(self, now: float) -> None:
        """End the connection if its client has sent or read nothing for too long."""
        if min(self._send_by or now, self._idle_until or now) < now:
            self.timeout_keep_alive_handler()
        unsent = self.transport.get_write_buffer_size()
        if unsent != self._unsent_bytes:
            self._unsent_bytes, self._unsent_since = unsent, now
        elif unsent and now - self._unsent_since > MAX_UNREAD_SECONDS:
            self._disconnect()
            self.transport.abort()

    def wants_body(self) -> bool:
        """Whether the application waits for more of a body."""
        return self._in_body and self.flow.is_wanted

    def shutdown(self) -> None:
        """End the connection after its next answer, or if no request comes in a moment.

        A client may have sent a request that is not here yet, and would see it cut.
        """
        if self._is_answered():
            self.loop.call_later(STOP_LINGER_SECONDS, self._close_if_idle)
        else:
            self.cycle.keep_alive = False

    def _close_if_idle(self) -> None:
        if self._is_answered() and not self._in_head:
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        self._parse(self._ahead + data)
        if self._in_body and not self.flow.is_wanted:
            # Until the application asks for more of the body, or it is its turn to be discarded.
            self.flow.pause_reading()
            if self._is_answered():
                self.places.discarding.append(self.flow.resume_reading)
        if self._idle_until is None and (self._in_head or self._is_answered()):
            self._expect_head()

    def send_400_response(self, msg: str) -> None:
        if self.transport.is_closing():
            return
        if not self._is_answered() and not self._in_body:
            # Earlier requests are answered in their order, then the connection ends.
            self.cycle.keep_alive = False
        elif self.pipeline or (self._in_body and self._is_answered()):
            # An earlier answer would have to come first, or this request has had its own.
            self._disconnect()
            self.transport.close()
        else:
            self._disconnect()
            self._refuse(IngestError(ErrorCode.INVALID_BODY, msg))

    def _refuse(self, error: IngestError) -> None:
        """Send an answer without the application, and end the connection."""
        context, status, body = self.render_refusal(error)
        headers: list[tuple[bytes, bytes]] = [
            *self.server_state.default_headers,
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            CLOSE,
            *context.headers(),
        ]
        if error.retry_after_seconds is not None:
            headers.append((b"retry-after", b"%d" % error.retry_after_seconds))
        self.transport.write(render(status, headers, body))
        self.transport.close()

    def _disconnect(self) -> None:
        """Have no answer written to a connection that ends."""
        for cycle in (self._begun, *(cycle for cycle, _ in self.pipeline)):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
                context = RequestContext.if_begun(cast("Scope", cycle.scope))
                if context is not None:
                    context.abandon()
        self.pipeline.clear()

    # --- called by the parser ----------------------------------------------------------------

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        if not self._declining:
            self.flow.is_wanted = False
            self.places.begin_request(self)
            self._send_by = None

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self.flow.is_wanted = False  # a read without any of the body has to be followed by another

    def on_message_complete(self) -> None:
        super().on_message_complete()
        if not self._in_body and self.cycle.response_complete:
            self._send_by = None
            self._idle_until = self.loop.time() + self.timeout_keep_alive

    # --- the answers -------------------------------------------------------------------------

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        if self.transport.get_write_buffer_size():
            # It waits until the client has read the answer before it: see resume_writing.
            self.pipeline.append((cycle, app))
            self.flow.pause_reading()
            self.transport.set_write_buffer_limits(0)
        else:
            self._begun = cycle
            if self._was_refused:
                cast("Scope", cycle.scope)[WAS_REFUSED] = True
            super()._start_asgi_task(cycle, app)

    def resume_writing(self) -> None:
        """Go on when the client has read what was written."""
        super().resume_writing()
        if self.pipeline and (self._begun is None or self._begun.response_complete):
            self.transport.set_write_buffer_limits()
            self._start_asgi_task(*self.pipeline.pop())
            self._go_on()

    def on_response_complete(self) -> None:
        """Begin the next request if it was read already; otherwise wait for it."""
        assert self._begun is not None
        context = RequestContext.of(cast("Scope", self._begun.scope))
        caller = context.caller
        is_known = context.budget is not None
        self._was_refused = not is_known and (self._was_refused or context.code in STRANGERS_CODES)
        self.places.end_request(self, caller.organization_id.int if caller else None)
        if self.transport.is_closing():
            return
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self._idle_until = self.loop.time() + self.timeout_keep_alive
        self._go_on()

    def _go_on(self) -> None:
        """Parse and read what comes after the request that was begun last."""
        if self._ahead and not self.pipeline:
            self._parse(self._ahead)
        if not self._is_answered():
            self.places.begin_request(self)
        if self._ended_by_client and self._is_over():
            self.transport.close()
            return
        self.flow.resume_reading()
        if self._in_head:
            self._expect_head()

    def _is_over(self) -> bool:
        """Whether every request that came whole has its answer, when no more will come."""
        return not (self.pipeline or self._ahead) and (self._is_answered() or self._in_body)

    # --- time --------------------------------------------------------------------------------

    def _expect_head(self) -> None:
        """Close the connection in MAX_HEAD_SECONDS, unless that is said or requests wait."""
        if self._send_by is None and not self.pipeline:
            self._send_by = self.loop.time() + MAX_HEAD_SECONDS

    def _unset_keepalive_if_required(self) -> None:
        self._idle_until = None


class _RequestFlowControl(FlowControl):
    """Flow control that reads nothing while a request that was read waits to be begun.

    ``is_wanted``: whether the application has asked for the body of the latest request, or answered
    without it.
    """

    def __init__(self, transport: asyncio.Transport, connection: HttpProtocol) -> None:
        super().__init__(transport)
        self._connection = connection
        self.is_wanted = False

    def resume_reading(self) -> None:
        """Read on, unless requests wait."""
        connection = self._connection
        self.is_wanted = True
        if not (connection.pipeline or connection._ahead or self._transport.is_closing()):
            super().resume_reading()

    def pause_reading(self) -> None:
        """Read no more until :meth:`resume_reading`."""
        if not self._transport.is_closing():
            super().pause_reading()
