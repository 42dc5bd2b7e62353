"""The tables of a report as a person reads them."""

from __future__ import annotations

import pytest

from service.bench.printing import COST_HEADERS, SPEED_HEADERS, costs, speeds
from service.bench.recorder import Latency
from service.bench.report import Cost, LatencyRatio, Line, Report


def report(unit: str, service_us: float | None, database_us: float | None) -> Report:
    cost = Cost(1.0, 1.0, 1.0, service_us, database_us)
    latency = Latency(1.0, 2.0, 3.0, 4_000.0, 5_000.0)
    line = Line("http", "HTTP", unit, 50_000.0, 100.0, latency, 0, "copy", 0.876, cost, [])
    return Report({}, {}, [line], None)


@pytest.mark.parametrize(("unit", "speed"), [("events", "50,000"), ("requests", "100")])
def test_the_speed_is_in_the_row_s_unit(unit: str, speed: str) -> None:
    (row,) = speeds(report(unit, None, None))
    assert row == ["HTTP", f"{speed} {unit}", "0.88 of copy", "1.00", "3.00", "4,000.0"]
    assert len(SPEED_HEADERS) == len(row)


def test_a_latency_is_compared_with_that_of_its_parts() -> None:
    latency, cost = Latency(12.0, 2.0, 3.0, 4.0, 5.0), Cost(1.0, 1.0, 1.0, None, None)
    ratio, parts = LatencyRatio(1.2, 1.5), ("ping_http", "insert")
    line = Line(
        "rest", "HTTP", "requests", 200.0, 200.0, latency, 0, None, None, cost, [], parts, ratio
    )
    (row,) = speeds(Report({}, {}, [line], None))
    shown = "p50 1.20, p99 1.50 of ping_http + insert"
    assert row == ["HTTP", "200 requests", shown, "12.0", "3.00", "4.00"]


@pytest.mark.parametrize(
    ("service_us", "database_us", "cells"),
    [
        (8.0, 4.0, ["8.0", "4.0", "125,000", "250,000"]),
        (0.02, None, ["", "?", "", "?"]),  # an idle process; one that cannot be seen
    ],
)
def test_the_cost_is_turned_round_to_events_of_a_core_second(
    service_us: float | None, database_us: float | None, cells: list[str]
) -> None:
    (row,) = costs(report("events", service_us, database_us))
    assert row == ["HTTP", *cells]
    assert len(COST_HEADERS) == len(row)
