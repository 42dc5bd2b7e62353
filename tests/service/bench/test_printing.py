"""The tables of a report as a person reads them."""

from __future__ import annotations

import pytest

from service.bench.printing import COST_HEADERS, SPEED_HEADERS, costs, speeds
from service.bench.recorder import Latency
from service.bench.report import Cost, Line, Report


def report(unit: str, service_us: float | None, database_us: float | None) -> Report:
    cost = Cost(1.0, 1.0, 1.0, service_us, database_us)
    latency = Latency(1.0, 2.0, 3.0, 4_000.0, 5_000.0)
    line = Line("http", "HTTP", unit, 50_000.0, 100.0, latency, 0, "copy", 0.876, cost, [])
    return Report({}, {}, [line], None)


@pytest.mark.parametrize(("unit", "speed"), [("events", "50,000"), ("requests", "100")])
def test_the_speed_is_in_the_row_s_unit(unit: str, speed: str) -> None:
    (row,) = speeds(report(unit, None, None))
    assert row == ["HTTP", f"{speed} {unit}", "0.88 of copy", "1.0", "3.0", "4,000.0"]
    assert len(SPEED_HEADERS) == len(row)


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
