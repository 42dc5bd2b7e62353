"""The kinds of tests, which of them run beside each other, and which come first."""

from __future__ import annotations

from pathlib import Path
from threading import Thread

import pytest

from tests.support.parallel import USUAL, is_free, permission_to_run
from tests.support.waiting import wait_until


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


def test_a_test_does_not_stand_behind_those_of_later_kinds_that_wait(tmp_path: Path) -> None:
    order = []

    def enter(kind: str) -> None:
        with permission_to_run(tmp_path, kind):
            order.append(kind)

    def is_wanted(kind: str) -> bool:
        with (tmp_path / f"wanted-{kind}").open("w") as file:
            return not is_free(file)

    later = ("alone", "timed")
    threads = [Thread(target=enter, args=(kind,), daemon=True) for kind in later]
    with permission_to_run(tmp_path, USUAL):
        for thread in threads:
            thread.start()
        wait_until(lambda: all(map(is_wanted, later)), "those of later kinds ask")
        enter(USUAL)
        assert order == [USUAL]
    for thread in threads:
        thread.join(20)
    assert order == [USUAL, "timed", "alone"]
