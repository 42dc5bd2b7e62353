"""Ports for servers that a test starts, and may start again."""

from __future__ import annotations

import random
import socket
from pathlib import Path
from typing import Final

_RANGE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_USUAL_FIRST_EPHEMERAL: Final = 32_768
_LOWEST: Final = 10_000  # above those of well-known servers


def free_port(*addresses: str) -> int:
    """A port that nobody listens on, on any of the addresses; without any, of the loopback.

    The system gives it to nobody who asks for any port, nor to an outgoing connection: nobody
    else has it before a server is started there, nor while that server is away.
    """
    while True:
        port = random.randrange(_LOWEST, _first_ephemeral())
        try:
            for address in addresses or ("127.0.0.1",):
                socket.create_server((address, port)).close()
        except OSError:
            continue
        return port


def _first_ephemeral() -> int:
    try:
        return int(_RANGE.read_text().split()[0])
    except OSError:  # another system than Linux
        return _USUAL_FIRST_EPHEMERAL
