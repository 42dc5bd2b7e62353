"""File descriptors: how many the process may have, and how many of them connections may take."""

from __future__ import annotations

import resource
from typing import Final

WANTED_DESCRIPTORS: Final = 65_536
# For connections to the database, the files of metrics, and connections on their way in or out.
RESERVED_DESCRIPTORS: Final = 256
MIN_CONNECTIONS: Final = 16


def raise_limit() -> int:
    """Raise the soft limit as far as is wanted and allowed; returns the limit that is in force."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return WANTED_DESCRIPTORS
    most = WANTED_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(WANTED_DESCRIPTORS, hard)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return max(soft, most)


def max_connections(descriptors: int, most: int) -> int:
    """How many connections one of the two APIs may have: half of what the reserve leaves."""
    return max(MIN_CONNECTIONS, min(most, (descriptors - RESERVED_DESCRIPTORS) // 2))
