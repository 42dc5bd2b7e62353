"""The clock, injected so that tests can move it over a month's end, an expiry, or a window."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


def _wall_clock_us() -> int:
    return time.time_ns() // 1_000


@dataclass(frozen=True, slots=True)
class Clock:
    """``now_us``: microseconds since the Unix epoch, UTC. ``monotonic``: seconds, for intervals."""

    now_us: Callable[[], int] = _wall_clock_us
    monotonic: Callable[[], float] = time.monotonic
