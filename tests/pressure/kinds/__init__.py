"""Every pressure, by name; each is a function that lasts until it is cancelled."""

from tests.pressure.kinds import (
    bodies,
    connections,
    frames,
    locked,
    operators,
    requests,
    streams,
    unfinished,
)
from tests.pressure.pressure import PRESSURES

__all__ = [
    "PRESSURES",
    "bodies",
    "connections",
    "frames",
    "locked",
    "operators",
    "requests",
    "streams",
    "unfinished",
]
