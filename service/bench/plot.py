"""Throughput and latency over time as a picture, drawn by pygal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pygal
from pygal.style import CleanStyle

from service.bench.recorder import Interval
from service.bench.report import Line, Report

WIDTH: Final = 520  # of one chart; a measurement has two
HEIGHT: Final = 260

Curve = tuple[str, Callable[[Interval], float]]


def svg(report: Report) -> str:
    """An SVG with two charts for each measurement, throughput and latency; a line a round."""
    height = HEIGHT * len(report.measurements)
    charts = [
        f'<svg x="{WIDTH * column}" y="{HEIGHT * row}" width="{WIDTH}" height="{HEIGHT}">'
        f"{chart}</svg>"
        for row, line in enumerate(report.measurements)
        for column, chart in enumerate(_charts(line))
    ]
    size = f'width="{2 * WIDTH}" height="{height}" viewBox="0 0 {2 * WIDTH} {height}"'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size}>', *charts, "</svg>", ""])


def _charts(line: Line) -> tuple[str, str]:
    unit = "requests/s" if line.unit == "requests" else "events/s"
    batch = line.events_per_second / max(line.requests_per_second, 0.001)
    scale = 1 / batch if line.unit == "requests" else 1.0
    return (
        _chart(line, f"{line.title}: {unit}", [(unit, lambda one: one.events_per_second * scale)]),
        _chart(line, "ms", [("p50", lambda one: one.p50_ms), ("p99", lambda one: one.p99_ms)]),
    )


def _chart(line: Line, title: str, curves: list[Curve]) -> str:
    chart = pygal.XY(
        title=title,
        x_title="seconds",
        width=WIDTH,
        height=HEIGHT,
        style=CleanStyle(title_font_size=13, label_font_size=10, legend_font_size=10),
        show_dots=False,
        include_x_axis=True,
        range=(0, None),
        legend_at_bottom=True,
        js=[],  # no script: nothing is fetched when it is looked at
        disable_xml_declaration=True,
    )
    for name, value in curves:
        for number, measured in enumerate(line.rounds, 1):
            points = [(one.second, value(one)) for one in measured.timeline]
            chart.add(f"{name}, round {number}", points)
    rendered: str = chart.render(is_unicode=True)
    return rendered
