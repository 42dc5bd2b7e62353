"""The HTTP server: uvicorn, bounded where it is not, and without signals of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, Final

import httptools
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from core.clock import Clock
from core.errors import ErrorCode, IngestError
from http_api.errors import render_error
from http_api.exchange import Exchange, new_exchange

MAX_CONNECTIONS: Final = 4_096
MAX_HEAD_BYTES: Final = 65_536  # request line and headers
MAX_HEAD_SECONDS: Final = 10.0
KEEP_ALIVE_SECONDS: Final = 75
BACKLOG: Final = 2_048


class HttpServer:
    """Serves an ASGI application on a bound socket until :meth:`stop`."""

    def __init__(
        self,
        app: ASGIApp,
        listener: socket.socket,
        *,
        base_url: str,
        clock: Clock,
        drain_seconds: float,
    ) -> None:
        class Protocol(_BoundedProtocol):
            def refuse(self, message: str) -> tuple[Exchange, int, bytes]:
                exchange = new_exchange(clock)
                error = IngestError(ErrorCode.INVALID_BODY, message)
                status, body, _ = render_error(error, exchange.request_id, base_url)
                return exchange, status, body

        self._listener = listener
        self._drain_seconds = drain_seconds
        self._cut: asyncio.TimerHandle | None = None
        self._server = _Server(
            uvicorn.Config(
                app,
                http=Protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                backlog=BACKLOG,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
            )
        )

    async def serve(self) -> None:
        """Run until :meth:`stop` and until the requests of that moment are answered."""
        try:
            await self._server.serve([self._listener])
        finally:
            if self._cut is not None:
                self._cut.cancel()

    def stop(self) -> None:
        """Stop accepting; answer what was begun, within the drain time.

        What takes longer gets no answer: it may yet be written, so any answer could be wrong.
        """
        self._server.should_exit = True
        loop = asyncio.get_running_loop()
        self._cut = loop.call_later(self._drain_seconds, self._server.cut)


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the service, which stops both protocols and the database in order."""
        yield

    def cut(self) -> None:
        """End all connections, and so the wait for them."""
        for connection in tuple(self.server_state.connections):
            if isinstance(connection, _BoundedProtocol):
                connection.transport.abort()
        self.force_exit = True


class _BoundedProtocol(HttpToolsProtocol):
    """Adds what uvicorn does not bound: how long a head may be, and how long it may take.

    What is not HTTP gets the same envelope as every other error, but never in place of the
    answer to an earlier request. An offer to upgrade the connection is declined by going on.
    """

    # Runs while a head is awaited, and while the rest of a body is that was answered early.
    _head_timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _begun = False  # there was a request
    _in_body = False
    _declining = False

    def refuse(self, message: str) -> tuple[Exchange, int, bytes]:
        """The exchange, status and body that answer what is not a request."""
        raise NotImplementedError

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        timer, in_body = self._head_timer, self._in_body
        try:
            self._feed(memoryview(data))
        except httptools.HttpParserError:
            self.send_400_response("This is not an HTTP/1.1 request.")
            return
        if timer is not None and timer is self._head_timer and not in_body:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.send_400_response(f"The headers are over {MAX_HEAD_BYTES} bytes.")
                return
        if self._answered() and self.timeout_keep_alive_task is None:
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
        # The parser takes the body for the other protocol. One that is told nothing of the
        # offer, only of the body's length, reads on in its place.
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
            self._await_head()

    def on_url(self, url: bytes) -> None:
        if not self._declining:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._declining:
            super().on_header(name, value.strip(b" \t"))  # which the parser does not take off

    def on_headers_complete(self) -> None:
        if not self._declining:
            super().on_headers_complete()
            self._end_head()
            self._begun = self._in_body = True

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        super().on_message_complete()
        self._in_body = False
        if self.cycle.response_complete:
            self._end_head()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _answered(self) -> bool:
        return not self._begun or self.cycle.response_complete

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_bytes = 0
            self._head_timer = self.loop.call_later(MAX_HEAD_SECONDS, self.transport.close)

    def _end_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def send_400_response(self, msg: str) -> None:
        if self.transport.is_closing():
            return
        if not self._answered() and not self._in_body:
            self.cycle.keep_alive = False  # answer what came before, in order, and close
            return
        if self.pipeline or (self._answered() and self._in_body):
            self.transport.close()
            return
        exchange, status, body = self.refuse(msg)
        headers: list[tuple[bytes, bytes]] = [
            *self.server_state.default_headers,
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
            *exchange.headers(),
        ]
        phrase = HTTPStatus(status).phrase.encode()
        head = b"".join([b"%s: %s\r\n" % header for header in headers])
        self.transport.write(b"HTTP/1.1 %d %s\r\n%s\r\n%s" % (status, phrase, head, body))
        self.transport.close()


def bind(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A listening socket; port 0 is any free one. Raises OSError, which names the address.

    A ``shared`` port can be had by all who share it, each with a part of the connections.
    """
    listener = _bound(host, port, shared=shared)
    try:
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _unavailable(host, port, error) from None
    return listener


def reserve(host: str, port: int) -> socket.socket:
    """A socket that holds a port for others of this user to share, and takes no connections.

    Raises OSError if anybody has the port already, whether to share it or not.
    """
    holder = _bound(host, port, shared=False)
    # Only now that it was had alone. Whoever wants it alone after us is refused.
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    return holder


def _bound(host: str, port: int, *, shared: bool) -> socket.socket:
    family, kind, _, _, target = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    # asyncio sends without delay (TCP_NODELAY) only where the protocol is named.
    listener = socket.socket(family, kind, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(target)
    except OSError as error:
        listener.close()
        raise _unavailable(host, port, error) from None
    return listener


def _unavailable(host: str, port: int, error: OSError) -> OSError:
    return OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}")


def address(listener: socket.socket) -> tuple[str, int]:
    """Where a socket listens, the port that was found for port 0 included."""
    name: tuple[Any, ...] = listener.getsockname()
    return str(name[0]), int(name[1])
