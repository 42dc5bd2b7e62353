"""The sockets that the HTTP API listens on.

They stand apart from the server, whose imports take most of a second: the supervisor reserves a
port and serves nothing.
"""

from __future__ import annotations

import socket
from typing import Any, Final

BACKLOG: Final = 2_048


def bind(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """Return a listening socket; port 0 is any free one. Raises OSError, which names the address.

    Several sockets may listen on a ``shared`` port; each gets a part of the connections.
    """
    listener = _bound(host, port, shared=shared)
    try:
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _unavailable(host, port, error) from None
    return listener


def reserve(host: str, port: int) -> socket.socket:
    """Return a socket that keeps a port for processes of this user to share, and never listens.

    Raises OSError if the port is taken already, shared or not.
    """
    holder = _bound(host, port, shared=False)
    # Set after binding: the port was free then, and who does not share it is refused from now on.
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
    """Return the host and port of a socket; for port 0, the port that was found."""
    name: tuple[Any, ...] = listener.getsockname()
    return str(name[0]), int(name[1])
