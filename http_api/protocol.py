"""A connection and each request on it: uvicorn's, with bounds that it has not, and at less cost.

Bounds: the number of connections, and the size and time of a head, the request line and headers
(RFC 9112, section 2.1), and the time of a body. Cost: a connection keeps one timer, where uvicorn
sets one for each request; an answer is written in one piece; its headers are not searched. Small
requests cost a quarter less. What is overridden says why; all else is uvicorn's.
"""

from __future__ import annotations

import asyncio
import urllib.parse
from collections.abc import Sized
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from http_api.middleware import RequestContext

if TYPE_CHECKING:
    from uvicorn._types import ASGIReceiveEvent, ASGISendEvent, HTTPResponseStartEvent

MAX_CONNECTIONS: Final = 4_096
MAX_HEAD_BYTES: Final = 65_536
MAX_HEAD_SECONDS: Final = 10.0
# Clients give up at 15 seconds; what trickles slower than this holds a connection for nothing.
MAX_BODY_SECONDS: Final = 10.0


class HttpProtocol(HttpToolsProtocol):
    """A client's connection, which ends if the client is too slow or sends a head too large.

    So it is with what follows a body in chunks, of which nothing is heeded. Of requests that come
    before the answers to earlier ones, no more are read until those that were read are begun.

    What is not HTTP gets the same envelope as every other error, but never in place of the
    answer to an earlier request. An offer to upgrade the connection (RFC 9110, section 7.8) is
    declined: the request is answered as if there were none.
    """

    # When the connection is closed, by the event loop's time, unless before that the client sends
    # what is awaited: a head, the rest of a body that was answered early, or the next request.
    _due: float | None = None
    # Fires at ``_due`` or earlier, and then is set anew. To cancel one and set another at each
    # request would cost more.
    _timer: asyncio.TimerHandle | None = None
    _idle = False  # what is awaited is the next request
    _head_bytes = 0  # of the head that is awaited
    _begun = False  # a first request has come
    _in_head = False
    _in_body = False
    _body_came = False
    _declining = False  # the parser reads what _decline_upgrade made up, not what the client sent

    def refuse(self, message: str) -> tuple[RequestContext, int, bytes]:
        """The context, status and body of the answer to what is not a request."""
        raise NotImplementedError

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
            return
        self.flow = _Flow(transport, self.pipeline)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._due = None
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        # As uvicorn's, but it also bounds the head, and goes on after an offer to upgrade.
        self._end_idleness()
        due, in_body = self._due, self._in_body
        cycle = self.cycle
        try:
            self._feed(memoryview(data))
        except httptools.HttpParserError:
            self.send_400_response("This is not an HTTP/1.1 request.")
            return
        same_head = not in_body and due is not None and due is self._due
        same_body = in_body and self._in_body and cycle is self.cycle
        if self._in_body and self._body_came:
            self._head_bytes, self._body_came = 0, False
        elif same_head or same_body:  # what is read brings no end of a head, and no body
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.send_400_response(f"The headers are over {MAX_HEAD_BYTES} bytes.")
                return
        if self._due is None and not self.pipeline and (self._in_head or self._answered()):
            self._await_head()

    def _feed(self, data: memoryview) -> None:
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as offer:
                data = data[offer.args[0] :]
                self._decline_upgrade()

    def _decline_upgrade(self) -> None:
        # After an offer the parser reads no further: what follows would be the other protocol. A
        # new parser takes its place. It is given a head without the offer, which only says how the
        # body is delimited, and so reads on with the body.
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

    def on_message_begin(self) -> None:
        if not self._declining:
            super().on_message_begin()
            self._end_idleness()
            self._in_head = True

    def on_url(self, url: bytes) -> None:
        if not self._declining:
            self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._declining or self._in_body:
            return
        name = name.lower()
        value = value.strip(b" \t")  # which the parser does not take off
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        # As uvicorn's, without root_path and limit_concurrency, which the service does not use.
        if self._declining:
            return
        version = self.parser.get_http_version()
        url = httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        self.scope["http_version"] = version
        self.scope["method"] = self.parser.get_method().decode("ascii")
        self.scope["path"] = urllib.parse.unquote(path) if "%" in path else path
        self.scope["raw_path"] = url.path
        self.scope["query_string"] = url.query or b""
        is_next = self._answered()
        self.cycle = _Cycle(
            self.scope,
            self.transport,
            self.flow,
            self.logger,
            self.access_logger,
            self.access_log,
            self.server_state.default_headers,
            asyncio.Event(),
            self.expect_100_continue,
            keep_alive=version != "1.0" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        if is_next:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))
        self._due = None
        self._in_head = self._body_came = False
        self._begun = self._in_body = True
        self._head_bytes = 0

    def on_body(self, body: bytes) -> None:
        self._body_came = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():  # the body is yet to come, from _decline_upgrade's parser
            return
        super().on_message_complete()
        self._in_body = False
        if self.cycle.response_complete:
            self._await_request()

    def on_response_complete(self) -> None:
        """Go on to the next request if it is there, else wait for it."""
        # As uvicorn's, but for its timer.
        if self.transport.is_closing():
            return
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            if self._in_head and not self.pipeline:
                self._await_head()
        elif self._due is None:
            self._await_request()
        self.flow.resume_reading()

    def _answered(self) -> bool:
        """Whether no request waits for its answer."""
        return not self._begun or self.cycle.response_complete

    def _await_head(self) -> None:
        self._head_bytes = 0
        self._end_within(MAX_HEAD_SECONDS)

    def _await_request(self) -> None:
        self._idle = True
        self._end_within(self.timeout_keep_alive)

    def _end_idleness(self) -> None:
        if self._idle:
            self._idle, self._due = False, None

    def _end_within(self, seconds: float) -> None:
        """Close the connection after so long, unless ``_due`` is changed before."""
        self._due = self.loop.time() + seconds
        if self._timer is not None:
            if self._timer.when() <= self._due:
                return
            self._timer.cancel()
        self._timer = self.loop.call_at(self._due, self._check_due)

    def _check_due(self) -> None:
        self._timer = None
        if self._due is None:
            return
        if self._due <= self.loop.time():
            self.transport.close()
        else:
            self._timer = self.loop.call_at(self._due, self._check_due)

    def send_400_response(self, msg: str) -> None:
        if self.transport.is_closing():
            return
        if not self._answered() and not self._in_body:
            self.cycle.keep_alive = False  # answer what came before, in order, and close
            return
        # There is no place for an answer: earlier ones are due, or the request has its own.
        if self.pipeline or (self._answered() and self._in_body):
            self.transport.close()
            return
        context, status, body = self.refuse(msg)
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


class _Flow(FlowControl):
    """Reads nothing while requests wait that were read."""

    def __init__(self, transport: asyncio.Transport, waiting: Sized) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        """Read again what comes, unless requests wait."""
        if not self._waiting:
            super().resume_reading()


class _Cycle(RequestResponseCycle):
    """A request and its answer: the ASGI ``receive`` and ``send`` of the application."""

    _start: HTTPResponseStartEvent | None = None  # waits to be written together with the body
    _body_due: float | None = None

    async def receive(self) -> ASGIReceiveEvent:
        """What has arrived of the body. Raises TimeoutError if not all of it arrives in time."""
        if self.message_event.is_set():
            return await super().receive()
        if self._body_due is None:
            self._body_due = asyncio.get_running_loop().time() + MAX_BODY_SECONDS
        async with asyncio.timeout_at(self._body_due):
            return await super().receive()

    async def send(self, message: ASGISendEvent) -> None:
        """Write the answer: in one piece if its body comes in one, as all of this service's do.

        Such an answer's headers are written unchecked. They are the service's own: they have a
        Content-Length and, as nothing in them is a client's, no line breaks.
        """
        if message["type"] == "http.response.start":
            self._start = message
            return
        start, self._start = self._start, None
        if (
            start is None
            or message["type"] != "http.response.body"
            or message.get("more_body")
            or self.scope["method"] == "HEAD"
            # What uvicorn answers to a crash says to close, which only its own ``send`` heeds.
            or start["status"] == HTTPStatus.INTERNAL_SERVER_ERROR
            or self.flow.write_paused
        ):
            if start is not None:
                await super().send(start)
            await super().send(message)
            return
        if self.disconnected:
            return
        lines = [b"%b: %b\r\n" % header for header in self.default_headers]
        lines += [b"%b: %b\r\n" % header for header in start.get("headers", ())]
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        self.transport.write(
            b"".join([STATUS_LINE[start["status"]], *lines, b"\r\n", message["body"]])
        )
        self.response_started = self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
