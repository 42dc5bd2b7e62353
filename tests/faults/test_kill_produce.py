"""The short form of kill_produce.py: the server dies again and again under a stream."""

from pathlib import Path

import pytest

from tests.faults.kill_produce import run

EVENTS = 24_000  # enough for a machine that is late with its kills
KILLS = 4


@pytest.mark.timeout(180)
def test_a_file_is_stored_exactly_once_through_kills_of_the_server(tmp_path: Path) -> None:
    run(tmp_path, EVENTS, KILLS, seed=20_261_123).check(KILLS)
