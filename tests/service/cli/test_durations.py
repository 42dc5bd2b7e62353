"""Durations on the command line."""

from __future__ import annotations

import pytest

from service.cli.durations import parse_seconds


@pytest.mark.parametrize(
    ("given", "seconds"), [("90s", 90), ("15m", 900), ("12h", 43_200), ("30d", 2_592_000)]
)
def test_durations(given: str, seconds: int) -> None:
    assert parse_seconds(given) == seconds


@pytest.mark.parametrize("given", ["", "s", "90", "1.5h", "-1s", "1w", " 1s", "1s\n", "0s", "١s"])
def test_what_is_no_duration(given: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_seconds(given)
