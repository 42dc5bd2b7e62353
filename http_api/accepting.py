"""Accepts connections, and reads from each no more at once than there is a use for."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Final

from http_api.connections import Connections
from http_api.protocol import HttpProtocol

log = logging.getLogger(__name__)

# uvloop accepts one in each turn, so that a newcomer would wait as many turns as others wait.
MAX_ACCEPTED_A_TURN: Final = 16
# Making connections, and what each brings, takes about half of the loop's time at most: where all
# of a long turn was made of them, fewer are accepted in the next one.
MIN_ACCEPTED_A_TURN: Final = 4
CONNECTION_SECONDS: Final = 0.0015
EXHAUSTED_PAUSE_SECONDS: Final = 0.2
TLS_SECONDS: Final = 10.0  # for a handshake, and for a connection to end in order
# Handshakes have no place among the connections yet; of those at once the oldest gives way.
MAX_HANDSHAKES: Final = 256
# So much of a body is in memory before anyone has asked for a credential.
HEAD_READ_BYTES: Final = 16_384
BODY_READ_BYTES: Final = 65_536

# No descriptor, or no memory of the kernel, for another connection.
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Acceptor:
    """Accepts connections from a listening socket, several in each turn of the event loop.

    With a ``tls_context`` they speak TLS; it is asked for each connection. Without a descriptor for
    another one it evicts an idle connection and pauses. The methods are
    those that uvicorn calls of a server of asyncio.
    """

    def __init__(
        self,
        listener: socket.socket,
        make_connection: Callable[[], HttpProtocol],
        connections: Connections,
        tls_context: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        self._tls_context = tls_context
        self._handshakes: dict[socket.socket, None] = {}  # the oldest first
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._make_connection = make_connection
        self._connections = connections
        self._buffer = memoryview(bytearray(BODY_READ_BYTES))
        self._begun: set[asyncio.Task[object]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._accepted_at = 0.0
        listener.setblocking(False)
        self._resume()

    def close(self) -> None:
        """Accept whom the kernel has connected by now, and nobody after; twice is harmless.

        The kernel resets connections that are not accepted when their listener is closed, with the
        requests in them. So it is closed in the moment in which none is left.
        """
        if self._listener.fileno() < 0:
            return
        while self._accept_one():
            pass
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._listener)
        self._listener.close()

    async def wait_closed(self) -> None:
        """Return once each accepted connection has been made."""
        if self._begun:
            await asyncio.wait(self._begun)

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        now = self._loop.time()
        due = int((now - self._accepted_at) / CONNECTION_SECONDS)
        self._accepted_at = now
        for _ in range(min(max(due, MIN_ACCEPTED_A_TURN), MAX_ACCEPTED_A_TURN)):
            if not self._accept_one():
                return

    def _accept_one(self) -> bool:
        """Whether another connection may wait."""
        try:
            accepted, _address = self._listener.accept()
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in _EXHAUSTED:
                self._make_room(error)
                return False
            return True  # the client went away while it waited
        accepted.setblocking(False)
        make = self._make if self._tls_context is None else self._shake_hands
        making = self._loop.create_task(make(accepted))
        self._begun.add(making)
        making.add_done_callback(self._begun.discard)
        return True

    async def _shake_hands(self, accepted: socket.socket) -> None:
        """Make a connection with TLS, for which an older handshake may have to end."""
        assert self._tls_context is not None
        if len(self._handshakes) >= MAX_HANDSHAKES:
            oldest = next(iter(self._handshakes))
            del self._handshakes[oldest]
            with contextlib.suppress(OSError):
                oldest.shutdown(socket.SHUT_RDWR)  # its handshake fails by that
        self._handshakes[accepted] = None
        try:
            await self._make(accepted, self._tls_context(), TLS_SECONDS)
        finally:
            self._handshakes.pop(accepted, None)

    async def _make(
        self,
        accepted: socket.socket,
        tls: ssl.SSLContext | None = None,
        tls_seconds: float | None = None,
    ) -> None:
        try:
            await self._loop.connect_accepted_socket(
                self._make_protocol,
                accepted,
                ssl=tls,
                ssl_handshake_timeout=tls_seconds,
                ssl_shutdown_timeout=tls_seconds,
            )
        except OSError as error:
            accepted.close()
            log.debug("a connection ended while it was made: %s", error)

    def _make_protocol(self) -> BoundedReads:
        return BoundedReads(self._make_connection(), self._buffer)

    def _make_room(self, error: OSError) -> None:
        log.warning("cannot accept connections for a moment: %s", error.strerror)
        self._connections.evict()
        self._loop.remove_reader(self._listener)
        self._pause = self._loop.call_later(EXHAUSTED_PAUSE_SECONDS, self._resume)


class BoundedReads(asyncio.BufferedProtocol):
    """Reads for a connection into a buffer of a size that is chosen for each read.

    uvloop reads 250 KB at a time into memory of its own choice otherwise. All connections of an
    event loop share the ``buffer``: its bytes are taken before that loop does anything else. Loops
    of other threads read meanwhile, so they need another one.
    """

    def __init__(self, connection: HttpProtocol, buffer: memoryview) -> None:
        self._connection = connection
        self._buffer = buffer
        self._head_buffer = buffer[:HEAD_READ_BYTES]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Hand over the transport."""
        self._connection.connection_made(transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return a large buffer only for a body that somebody waits for."""
        return self._buffer if self._connection.wants_body() else self._head_buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Hand over what was read."""
        self._connection.data_received(bytes(self._buffer[:nbytes]))

    def eof_received(self) -> bool:
        """Return whether the connection stays open although the client sends no more."""
        return self._connection.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell of the end."""
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        """Tell that the client does not read as fast as it is answered."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """Tell that the client has read."""
        self._connection.resume_writing()
