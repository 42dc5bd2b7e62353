"""Small plots as SVG: the numbers of a series, scaled to the box of a plot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

WIDTH: Final = 240
HEIGHT: Final = 48
_MARGIN: Final = 3  # for the width of the line


class Line(NamedTuple):
    """A line through the values of a series, and its last point."""

    points: str  # of an SVG polyline
    last: tuple[float, float]
    low: float
    high: float


def line(series: Sequence[tuple[float, float]]) -> Line | None:
    """Return the line of (time, value) in order of time; None for fewer than two points."""
    if len(series) < 2:
        return None
    times, values = zip(*series, strict=True)
    low, high = min(values), max(values)
    points = [
        (
            _scaled(at, times[0], times[-1], WIDTH),
            HEIGHT - _scaled(value, low, high, HEIGHT),
        )
        for at, value in series
    ]
    text = " ".join(f"{x:g},{y:g}" for x, y in points)
    return Line(text, points[-1], low, high)


def _scaled(value: float, low: float, high: float, length: int) -> float:
    """Return the place of a value within a length; the middle if all values are the same."""
    if high <= low:
        return length / 2
    # Each part is divided by itself first: the difference of two large numbers can overflow.
    share = value / (high - low) - low / (high - low) if high - low != float("inf") else 0.5
    return round(_MARGIN + (length - 2 * _MARGIN) * share, 1)


class Bar(NamedTuple):
    """A bar of a stacked pair: what was accepted below, what was rejected above it."""

    x: float
    width: float
    accepted_y: float
    accepted_height: float
    rejected_y: float
    rejected_height: float


def bars(pairs: Sequence[tuple[int, int]], highest: int) -> list[Bar]:
    """Return a bar for each pair of accepted and rejected, on a scale that ends at ``highest``."""
    step = WIDTH / max(len(pairs), 1)
    made = []
    for number, (accepted, rejected) in enumerate(pairs):
        if not (accepted or rejected):
            continue
        lower = round(HEIGHT * accepted / max(highest, 1), 1)
        upper = round(HEIGHT * rejected / max(highest, 1), 1)
        made.append(
            Bar(
                round(number * step, 2),
                round(step * 0.8, 2),
                round(HEIGHT - lower, 1),
                lower,
                round(HEIGHT - lower - upper, 1),
                upper,
            )
        )
    return made
