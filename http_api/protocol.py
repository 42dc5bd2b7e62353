"""One HTTP connection: uvicorn's, with the bounds that uvicorn does not have.

This is the only module that relies on internals of uvicorn's connections. Each is named in
tests/http_api/test_uvicorn_internals.py, which fails when one changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sized
from typing import Final, cast

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from http_api.middleware import RequestContext

MAX_CONNECTIONS: Final = 4_096
# A head is a request line with its headers (RFC 9112, section 2.1).
MAX_HEAD_BYTES: Final = 65_536
MAX_HEAD_SECONDS: Final = 10.0
# For requests that are on their way when the service stops; answers then end their connection.
STOP_LINGER_SECONDS: Final = 0.5


class HttpProtocol(HttpToolsProtocol):
    """A client's connection, with bounds on its number and on the size and time of a head.

    A connection over the number is aborted. A head that is too large is answered with 400, one
    that is too slow closes the connection. The same bounds hold for trailers and for the rest of
    a body that was answered before it had come. Trailers are ignored.

    Pipelined requests are read only until one has to wait for an earlier answer; reading goes on
    when none waits.

    Bytes that are not HTTP are answered with 400 in the envelope of contract section 3, but never
    in place of the answer to an earlier request.

    An offer to upgrade the connection (RFC 9110, section 7.8) is declined: the request is answered
    as if it were not there.
    """

    _send_timer: asyncio.TimerHandle | None = None  # runs while the client owes the rest of a head
    _unparsed_bytes = 0  # received since the last whole head, piece of a body or whole message
    _in_head = False
    _in_body = False
    _declining = False  # the parser reads a head of _decline_upgrade, not of the client

    def render_bad_request(self, message: str) -> tuple[RequestContext, int, bytes]:
        """Return the context, status and body of the answer to bytes that are not a request."""
        raise NotImplementedError

    # --- the connection ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
            return
        self.flow = _PipelineFlowControl(transport, self.pipeline)
        self._start_send_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_send_timer()
        super().connection_lost(exc)

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
        self._unparsed_bytes += len(data)
        try:
            self._parse(memoryview(data))
        except httptools.HttpParserError:
            self.send_400_response("This is not an HTTP/1.1 request.")
            return
        if self._unparsed_bytes > MAX_HEAD_BYTES:
            self.send_400_response(f"The headers are over {MAX_HEAD_BYTES} bytes.")
            return
        if self.timeout_keep_alive_task is None and (self._in_head or self._is_answered()):
            self._start_send_timer()

    def _parse(self, data: memoryview) -> None:
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as offer:
                data = data[offer.args[0] :]
                self._decline_upgrade()

    def _decline_upgrade(self) -> None:
        # The parser takes all that follows an offer for the other protocol. A new parser replaces
        # it; a head without the offer, which only delimits the body, makes it go on with the body.
        framing = [
            b"%b: %b\r\n" % header
            for header in self.headers
            if header[0] in (b"content-length", b"transfer-encoding")
        ]
        self.parser = httptools.HttpRequestParser(self)
        self._declining = True
        try:
            self.parser.feed_data(b"".join([b"POST / HTTP/1.1\r\n", *framing, b"\r\n"]))
        finally:
            self._declining = False

    def send_400_response(self, msg: str) -> None:
        if self.transport.is_closing():
            return
        if not self._is_answered() and not self._in_body:
            # Earlier requests are answered in their order, then the connection ends.
            self.cycle.keep_alive = False
            return
        if self.pipeline or (self._in_body and self._is_answered()):
            # An earlier answer would have to come first, or this request has had its own.
            self.transport.close()
            return
        context, status, body = self.render_bad_request(msg)
        headers: list[tuple[bytes, bytes]] = [
            *self.server_state.default_headers,
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
            *context.headers(),
        ]
        lines = [b"%b: %b\r\n" % header for header in headers]
        self.transport.write(b"".join([STATUS_LINE[status], *lines, b"\r\n", body]))
        self.transport.close()

    # --- called by the parser ----------------------------------------------------------------

    def on_message_begin(self) -> None:
        if not self._declining:
            super().on_message_begin()
            self._unset_keepalive_if_required()
            self._in_head = True

    def on_url(self, url: bytes) -> None:
        if not self._declining:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not (self._declining or self._in_body):  # in a body it is a trailer
            super().on_header(name, value.strip(b" \t"))  # the parser leaves trailing blanks

    def on_headers_complete(self) -> None:
        if not self._declining:
            super().on_headers_complete()
            self._cancel_send_timer()
            self._unparsed_bytes = 0
            self._in_head, self._in_body = False, True

    def on_body(self, body: bytes) -> None:
        self._unparsed_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():  # the body is yet to come, from _decline_upgrade's parser
            return
        super().on_message_complete()
        self._unparsed_bytes = 0
        self._in_body = False
        if self.cycle.response_complete:
            self._cancel_send_timer()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    # --- called when an answer was sent ------------------------------------------------------

    def on_response_complete(self) -> None:
        """Begin the next request if it was read already; otherwise wait for it."""
        super().on_response_complete()
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self._in_head:
            self._start_send_timer()

    # --- time --------------------------------------------------------------------------------

    def _is_answered(self) -> bool:
        """Whether no request waits for its answer."""
        cycle = cast("RequestResponseCycle | None", self.cycle)  # None before the first request
        return cycle is None or cycle.response_complete

    def _start_send_timer(self) -> None:
        """Close the connection in MAX_HEAD_SECONDS, unless the timer runs or requests wait."""
        if self._send_timer is None and not self.pipeline:
            self._send_timer = self.loop.call_later(
                MAX_HEAD_SECONDS, self.timeout_keep_alive_handler
            )

    def _cancel_send_timer(self) -> None:
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None


class _PipelineFlowControl(FlowControl):
    """Flow control that reads nothing while a request that was read waits to be begun."""

    def __init__(self, transport: asyncio.Transport, waiting: Sized) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        """Read on, unless requests wait."""
        if not self._waiting:
            super().resume_reading()
