"""The HTTP server: uvicorn, bounded where it is not, and without signals of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp

from core.clock import Clock
from core.error_codes import ErrorCode
from core.errors import IngestError
from http_api.errors import render_error
from http_api.middleware import RequestContext, new_context
from http_api.protocol import HttpProtocol

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
        class ServiceProtocol(HttpProtocol):
            def render_bad_request(self, message: str) -> tuple[RequestContext, int, bytes]:
                context = new_context(clock)
                error = IngestError(ErrorCode.INVALID_BODY, message)
                status, body, _ = render_error(error, context.request_id, base_url)
                return context, status, body

        self._listener = listener
        self._drain_seconds = drain_seconds
        self._cut: asyncio.TimerHandle | None = None
        self._server = _Server(
            uvicorn.Config(
                app,
                http=ServiceProtocol,
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
            if isinstance(connection, HttpProtocol):
                connection.transport.abort()
        self.force_exit = True


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
