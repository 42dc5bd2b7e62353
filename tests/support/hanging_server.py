"""A server that takes connections and says nothing, as a host that hangs."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator


class HangingServer:
    """Listens on loopback. ``conninfo``: a connection string that gives up after two seconds."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        port = listener.getsockname()[1]
        self.conninfo = f"host=127.0.0.1 port={port} connect_timeout=2"

    def connections(self) -> int:
        """The number of connections since the last question."""
        count = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                self._listener.accept()[0].close()
                count += 1
        return count


@contextlib.contextmanager
def hanging_server() -> Iterator[HangingServer]:
    """A hanging server, for the length of a block."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield HangingServer(listener)
