"""Durations on the command line: ``90s``, ``15m``, ``12h``, ``30d``."""

from __future__ import annotations

import re
from typing import Final

_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_DURATION: Final = re.compile(r"(\d{1,9})([smhd])\Z", re.ASCII)


def parse_seconds(given: str) -> int:
    """The seconds of a duration; ValueError that says how one is written."""
    match = _DURATION.match(given)
    if match is None or not int(match[1]):
        raise ValueError(
            f"{given!r} is not a duration: write a whole number and s, m, h or d, like 90s or 30d"
        )
    return int(match[1]) * _SECONDS[match[2]]
