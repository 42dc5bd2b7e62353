"""File descriptors: the limit of this process, and its share for the connections of clients."""

from __future__ import annotations

import contextlib
import resource
from typing import Final

# For the pools, the listeners, the event loop, files, and the database's keeper: so much is left
# when both protocols have all the connections they may have.
RESERVED_DESCRIPTORS: Final = 128
MAX_CONNECTIONS: Final = 4_096  # of one protocol, however high the limit is
MIN_CONNECTIONS: Final = 16  # of one protocol, however low it is


def raise_descriptor_limit() -> None:
    """Raise the soft limit to the hard one; where the system refuses, it stays."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def max_connections(descriptors: int | None = None) -> int:
    """The number of connections that a process may have of each of its two protocols.

    ``descriptors`` is the limit to share out; by default this process's, after
    :func:`raise_descriptor_limit`.
    """
    if descriptors is None:
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    share = (descriptors - RESERVED_DESCRIPTORS) // 2
    return min(max(share, MIN_CONNECTIONS), MAX_CONNECTIONS)
