"""Throughput and latency over time as a picture: SVG, which needs no library to write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Final

from service.bench.recorder import Interval
from service.bench.report import Line, Report

WIDTH: Final = 1_040
PANEL_WIDTH: Final = 440
PANEL_HEIGHT: Final = 120
ROW_HEIGHT: Final = 190
LEFT: Final = 70
RIGHT_PANEL: Final = LEFT + PANEL_WIDTH + 70
TOP: Final = 70
THROUGHPUT: Final = "#2463a8"
P50: Final = "#3c8d40"
P99: Final = "#c2571a"


def svg(whole: Report) -> str:
    """A row of two panels for each measurement: throughput, and latency. A line a round."""
    height = TOP + ROW_HEIGHT * len(whole.measurements) + 20
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
            f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">'
        ),
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        _text(LEFT, 24, "wepeople-ingest bench", size=16),
        _text(LEFT, 44, "a line a round, over the seconds of the round", fill="#666"),
    ]
    for number, line in enumerate(whole.measurements):
        parts += _row(line, TOP + ROW_HEIGHT * number)
    return "\n".join([*parts, "</svg>", ""])


def _row(line: Line, top: int) -> list[str]:
    unit = "requests/s" if line.unit == "requests" else "events/s"
    batch = line.events_per_second / max(line.requests_per_second, 0.001)
    scale = 1 / batch if line.unit == "requests" else 1.0
    timelines = [one.timeline for one in line.rounds]
    panel = top + 30
    return [
        _text(LEFT, top + 18, line.title, size=13),
        *_panel(
            LEFT, panel, unit, timelines, [(THROUGHPUT, "", lambda i: i.events_per_second * scale)]
        ),
        *_panel(
            *(RIGHT_PANEL, panel, "ms", timelines),
            [(P50, "p50", lambda i: i.p50_ms), (P99, "p99", lambda i: i.p99_ms)],
        ),
    ]


Curve = tuple[str, str, Callable[[Interval], float]]


def _panel(
    left: int, top: int, unit: str, timelines: Sequence[Sequence[Interval]], curves: Sequence[Curve]
) -> list[str]:
    every = [interval for timeline in timelines for interval in timeline]
    longest = max((interval.second for interval in every), default=0) or 1
    values = (value(interval) for interval in every for _, _, value in curves)
    most = _round_up(max(values, default=0))
    bottom = top + PANEL_HEIGHT
    parts = []
    for part in range(3):
        y = bottom - PANEL_HEIGHT * part / 2
        parts.append(
            f'<line x1="{left}" y1="{y}" x2="{left + PANEL_WIDTH}" y2="{y}" stroke="#ddd"/>'
        )
        label = f"{most * part / 2:,.10g}" + (f" {unit}" if part == 2 else "")
        anchor = "start" if part == 2 else "end"
        x, above = (left, y - 5) if part == 2 else (left - 6, y + 4)
        parts.append(_text(x, above, label, anchor=anchor, fill="#666"))
    parts.append(_text(left, bottom + 16, "0 s", fill="#666"))
    parts.append(
        _text(left + PANEL_WIDTH, bottom + 16, f"{longest:g} s", anchor="end", fill="#666")
    )
    for number, (colour, name, value) in enumerate(curves):
        for timeline in timelines:
            points = " ".join(
                f"{left + interval.second / longest * PANEL_WIDTH:.1f},"
                f"{bottom - value(interval) / most * PANEL_HEIGHT:.1f}"
                for interval in timeline
            )
            parts.append(
                f'<polyline points="{points}" fill="none" stroke="{colour}" '
                'stroke-width="1.5" stroke-opacity="0.7"/>'
            )
        x = left + PANEL_WIDTH - 40 * (len(curves) - number - 1)
        parts.append(_text(x, top - 5, name, anchor="end", fill=colour))
    return parts


def _round_up(value: float) -> float:
    """The next of 1, 2, 5, 10, 20, 50 …"""
    scale = 1.0
    while scale * 10 <= value:
        scale *= 10
    while scale > value > 0:
        scale /= 10
    return next(step * scale for step in (1, 2, 5, 10) if step * scale >= value)


def _text(
    x: float, y: float, text: str, *, size: int = 12, anchor: str = "start", fill: str = "#222"
) -> str:
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}" fill="{fill}">'
        f"{escape(text)}</text>"
    )
