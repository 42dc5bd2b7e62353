"""The plot: two charts for each row, with a curve for each round."""

from __future__ import annotations

from xml.etree import ElementTree

from service.bench.plot import svg
from service.bench.recorder import Interval, Latency
from service.bench.report import Cost, Line, Report, Round

COST = Cost(None, None, 1.0, None, None)
LATENCY = Latency(1.0, 2.0, 3.0, 4.0, 5.0)
TITLE = "1 < 2 & more"


def picture(rounds: list[Round]) -> ElementTree.Element:
    """The picture of a report of one row."""
    line = Line("a", TITLE, "requests", 500.0, 1.0, LATENCY, 0, None, None, COST, rounds)
    return ElementTree.fromstring(svg(Report({}, {}, [line], None)))  # noqa: S314


def test_each_figure_has_a_curve_for_each_round_and_nothing_is_fetched() -> None:
    timeline = [Interval(number / 4, 1_000.0 * number, number, 3 * number) for number in range(8)]
    drawn = picture([Round(1.0, 1.0, LATENCY, timeline[:count]) for count in (8, 5)])
    text = " ".join(drawn.itertext())
    assert TITLE in text
    for figure in ("requests/s", "p50", "p99"):
        assert all(f"{figure}, round {number}" in text for number in (1, 2))
    names = [element.tag.rpartition("}")[2] for element in drawn.iter()]
    assert "script" not in names


def test_a_row_without_rounds_is_a_picture_too() -> None:
    assert TITLE in " ".join(picture([]).itertext())
