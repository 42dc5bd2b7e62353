"""The HTTP server: uvicorn with bounded connections and without handlers of signals."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Final, cast

import uvicorn
from starlette.types import ASGIApp

from core.clock import Clock
from core.descriptors import MAX_CONNECTIONS
from core.errors import IngestError
from core.tls_files import FollowedFiles, TlsFiles, server_context
from http_api.accepting import Acceptor
from http_api.connections import Connections
from http_api.errors import render_error
from http_api.listeners import BACKLOG
from http_api.middleware import RequestContext
from http_api.protocol import HttpProtocol

KEEP_ALIVE_SECONDS: Final = 75
# The event loop keeps up to 256 KiB for what it reads of a connection with TLS.
MAX_TLS_CONNECTIONS: Final = 1_024
TICKS_A_SECOND: Final = 10  # of uvicorn
_CLOSE: Final = (b"connection", b"close")


class HttpServer:
    """Serves an ASGI application on a bound socket until :meth:`stop`.

    ``connections``: those that are open. With ``tls`` it speaks TLS alone, once
    :meth:`load_certificates` was called.
    """

    def __init__(
        self,
        app: ASGIApp,
        listener: socket.socket,
        *,
        base_url: str,
        clock: Clock,
        drain_seconds: float,
        max_connections: int = MAX_CONNECTIONS,
        max_connections_per_address: int | None = None,
        tls: TlsFiles | None = None,
    ) -> None:
        self._certificates = None if tls is None else FollowedFiles(tls, server_context)
        if tls is not None:
            max_connections = min(max_connections, MAX_TLS_CONNECTIONS)
        self.connections = connections = Connections(max_connections, max_connections_per_address)

        class ServiceProtocol(HttpProtocol):
            places = connections

            def render_refusal(self, error: IngestError) -> tuple[RequestContext, int, bytes]:
                context = RequestContext(clock)
                status, body, _ = render_error(error, context.request_id, base_url)
                return context, status, body

        self._listener = listener
        self._drain_seconds = drain_seconds
        self._abort_timer: asyncio.TimerHandle | None = None
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
            ),
            connections,
            None if self._certificates is None else self._certificates.latest,
        )

    def load_certificates(self) -> None:
        """Read the TLS files, if there are any; raises :class:`TlsFileError`."""
        if self._certificates is not None:
            self._certificates.load()

    @property
    def certificate_end(self) -> Callable[[], float] | None:
        """Tells when the certificate in use ends, in seconds since the epoch; None without TLS."""
        return None if self._certificates is None else self._certificates.ends_at

    def reload_certificates(self) -> None:
        """Use the TLS files as they are now, for new connections."""
        if self._certificates is not None:
            self._certificates.reload()

    async def serve(self) -> None:
        """Run until :meth:`stop`, then until the requests of that moment are answered."""
        try:
            await self._server.serve([self._listener])
        finally:
            if self._abort_timer is not None:
                self._abort_timer.cancel()

    def announce_stop(self) -> None:
        """Have every answer from now on end its connection, so that clients choose another host."""
        self._server.announce_stop()

    def stop(self) -> None:
        """Stop accepting; requests under way are answered within the drain time.

        A request that takes longer gets no answer: it may yet be stored, so any answer could be
        wrong.
        """
        self.announce_stop()
        self._server.should_exit = True
        loop = asyncio.get_running_loop()
        self._abort_timer = loop.call_later(self._drain_seconds, self._server.abort_connections)


class _Server(uvicorn.Server):
    def __init__(
        self,
        config: uvicorn.Config,
        connections: Connections,
        tls_context: Callable[[], ssl.SSLContext] | None,
    ) -> None:
        super().__init__(config)
        self._connections = connections
        self._tls_context = tls_context

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the service, which stops both APIs and the database in order."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections in our own way: see :class:`Acceptor`."""
        await self.lifespan.startup()
        acceptors = [
            Acceptor(one, self._new_protocol, self._connections, self._tls_context)
            for one in sockets or []
        ]
        self.servers = cast("list[asyncio.Server]", acceptors)
        self.started = True

    async def on_tick(self, counter: int) -> bool:
        """Look at the connections once a second for clients that send or read nothing."""
        if not counter % TICKS_A_SECOND:
            now = asyncio.get_running_loop().time()
            for connection in tuple(self.server_state.connections):
                if isinstance(connection, HttpProtocol):
                    connection.check_time(now)
        return await super().on_tick(counter)

    def announce_stop(self) -> None:
        """Send ``Connection: close`` with every answer."""
        if _CLOSE not in self.config.encoded_headers:
            self.config.encoded_headers.append(_CLOSE)
            # The list is the one that requests under way have.
            self.server_state.default_headers.append(_CLOSE)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, and have all connections that were made by then end in order."""
        for server in self.servers:
            server.close()
            await server.wait_closed()
        await super().shutdown(sockets)

    def _new_protocol(self) -> HttpProtocol:
        make = cast("type[HttpProtocol]", self.config.http_protocol_class)
        return make(self.config, self.server_state, self.lifespan.state)

    def abort_connections(self) -> None:
        """Abort all connections, which ends the wait for them."""
        for connection in tuple(self.server_state.connections):
            if isinstance(connection, HttpProtocol):
                connection.transport.abort()
        self.force_exit = True
