"""The kinds of tests, and which of them run beside each other."""

from __future__ import annotations

from pathlib import Path
from threading import Thread

import pytest

from tests.support.parallel import USUAL, permission_to_run


@pytest.mark.parametrize(
    ("running", "entering", "waits"),
    [
        (USUAL, USUAL, False),
        ("timed", "timed", False),
        (USUAL, "timed", True),
        ("timed", USUAL, True),
        (USUAL, "alone", True),
        ("timed", "alone", True),
        ("alone", "alone", True),
        ("alone", USUAL, True),
    ],
)
def test_tests_run_beside_those_of_their_kind_but_for_those_that_run_alone(
    tmp_path: Path, running: str, entering: str, waits: bool
) -> None:
    entered = []

    def enter() -> None:
        with permission_to_run(tmp_path, entering):
            entered.append(entering)

    thread = Thread(target=enter)
    with permission_to_run(tmp_path, running):
        thread.start()
        thread.join(0.2 if waits else 20)
        assert thread.is_alive() == waits
        assert bool(entered) != waits
    thread.join(20)
    assert entered == [entering]
