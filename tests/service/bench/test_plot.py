"""The plot: two charts for each row, with a curve for each round."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

PROJECT = Path(__file__).parents[3]
TITLE = "1 < 2 & more"
# In a process of its own: pygal adds to sys.meta_path, and later imports then warn on Python 3.11.
DRAW = f"""
import sys
from service.bench.plot import svg
from service.bench.recorder import Interval, Latency
from service.bench.report import Cost, Line, Report, Round

latency = Latency(1.0, 2.0, 3.0, 4.0, 5.0)
cost = Cost(None, None, 1.0, None, None)
timeline = [Interval(number / 4, 1_000.0 * number, number, 3 * number) for number in range(8)]
rounds = [Round(1.0, 1.0, latency, timeline[:int(count)]) for count in sys.argv[1:]]
line = Line("a", {TITLE!r}, "requests", 500.0, 1.0, latency, 0, None, None, cost, rounds)
sys.stdout.write(svg(Report({{}}, {{}}, [line], None)))
"""


def picture(*rounds: int) -> ElementTree.Element:
    """The picture of a report of one row, whose rounds have so many intervals each."""
    done = subprocess.run(
        [sys.executable, "-c", DRAW, *map(str, rounds)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    return ElementTree.fromstring(done.stdout)  # noqa: S314


def test_each_figure_has_a_curve_for_each_round_and_nothing_is_fetched() -> None:
    drawn = picture(8, 5)
    text = " ".join(drawn.itertext())
    assert TITLE in text
    for figure in ("requests/s", "p50", "p99"):
        assert all(f"{figure}, round {number}" in text for number in (1, 2))
    attributes = {name.rpartition("}")[2] for element in drawn.iter() for name in element.attrib}
    assert not attributes & {"href", "src"}


def test_a_row_without_rounds_is_a_picture_too() -> None:
    assert TITLE in " ".join(picture().itertext())
