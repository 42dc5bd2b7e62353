"""Plots: every finite number has a place in the box."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from http_api.console.plots import HEIGHT, WIDTH, bars, line

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


def test_a_line_needs_two_points() -> None:
    assert line([]) is None
    assert line([(1, 1)]) is None


def test_a_line_goes_from_left_to_right_and_up_with_its_values() -> None:
    drawn = line([(0, 10), (1, 30), (2, 20)])
    assert drawn is not None
    assert drawn.points == "3,45 120,3 237,24"
    assert (drawn.low, drawn.high) == (10, 30)


@given(st.lists(NUMBERS, min_size=2))
def test_every_number_has_a_place(values: list[float]) -> None:
    drawn = line(list(enumerate(values)))
    assert drawn is not None
    for point in drawn.points.split():
        x, y = map(float, point.split(","))
        assert 0 <= x <= WIDTH
        assert 0 <= y <= HEIGHT


def test_bars_stand_on_each_other_and_empty_places_have_none() -> None:
    lower, upper = bars([(10, 0), (0, 0), (5, 5)], 10)
    assert (lower.accepted_height, lower.rejected_height) == (HEIGHT, 0)
    assert upper.rejected_y + upper.rejected_height == upper.accepted_y
    assert lower.x < upper.x
