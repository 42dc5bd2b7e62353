"""The leases on one embedded PostgreSQL: open connections to the keeper, and what they are told.

To every connection go lines of JSON: any number of {"progress": text}, and then either
{"conninfo": {...}} as soon as PostgreSQL takes connections, or {"error": text}. After that nothing
is sent, so that a connection which becomes readable has ended. Nothing is expected from the other
side but that it ends, which the kernel sees to when its process dies.
"""

import json
import selectors
import socket
import time
from contextlib import suppress

LINGER_SECONDS = 0.5  # one command after another finds PostgreSQL still running
FIRST_LEASE_SECONDS = 5.0  # whoever started the keeper may be slow to connect


class Leases:
    """The open connections, and what each of them has been told."""

    def __init__(self, listener: socket.socket, wakeup: socket.socket) -> None:
        self._selector = selectors.DefaultSelector()
        for source in (listener, wakeup):
            self._selector.register(source, selectors.EVENT_READ, source)
        self._listener = listener
        self._wakeup = wakeup
        self._waiting: set[socket.socket] = set()
        self._served: set[socket.socket] = set()
        self._answer: dict[str, object] | None = None
        self._progress: dict[str, object] | None = None
        self._expires_at = time.monotonic() + FIRST_LEASE_SECONDS

    def seconds_left(self) -> float | None:
        """How long to go on without a lease; None while there is one."""
        if self._waiting or self._served:
            return None
        return max(0.0, self._expires_at - time.monotonic())

    def progress(self, text: str) -> None:
        """Tell everyone who waits now, or comes before there is an answer."""
        self._answer, self._progress = None, {"progress": text}
        for connection in tuple(self._waiting):
            self._tell(connection, self._progress)

    def answer(self, answer: dict[str, object]) -> None:
        """Tell everyone who waits, and everyone who comes from now on."""
        self._answer = answer
        for connection in tuple(self._waiting):
            self._tell(connection, answer)
            self._waiting.discard(connection)
            self._served.add(connection)

    def wait(self, seconds: float | None) -> None:
        """Let leases come and go until something happened, at most so long (None: no bound)."""
        for key, _ in self._selector.select(seconds):
            ready: socket.socket = key.data
            if ready is self._listener:
                self._accept()
                continue
            with suppress(BlockingIOError):
                try:
                    gone = not ready.recv(4096)
                except ConnectionError:
                    gone = True
                if gone and ready is not self._wakeup:
                    self._drop(ready)

    def _accept(self) -> None:
        with suppress(OSError):  # most often that nobody else is knocking
            while True:
                connection, _ = self._listener.accept()
                connection.setblocking(False)
                self._selector.register(connection, selectors.EVENT_READ, connection)
                self._waiting.add(connection)
                if self._answer is not None:
                    self.answer(self._answer)
                elif self._progress is not None:
                    self._tell(connection, self._progress)

    def _tell(self, connection: socket.socket, line: dict[str, object]) -> None:
        # These few bytes always fit; a connection closed meanwhile is dropped by `wait`.
        with suppress(OSError):
            connection.send(json.dumps(line).encode() + b"\n")

    def _drop(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        self._waiting.discard(connection)
        self._served.discard(connection)
        connection.close()
        self._expires_at = time.monotonic() + LINGER_SECONDS
