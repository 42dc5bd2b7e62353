"""The tests that CI does not run again, and its lines about those that it does."""

from __future__ import annotations

from types import SimpleNamespace

from tests.support.reruns import NEVER, flaky
from tests.support.service_process import PROJECT


def test_what_is_never_run_again_exists() -> None:
    assert [path for path in NEVER if not (PROJECT / path).exists()] == []


def test_a_test_that_passes_when_it_is_run_again_has_a_line() -> None:
    crash = SimpleNamespace(reprcrash=SimpleNamespace(message="assert 1 == 2\n  and more"))
    once = SimpleNamespace(nodeid="tests/test_a.py::test_once", longrepr=crash)
    in_its_setup = SimpleNamespace(nodeid="tests/test_a.py::test_setup", longrepr="no server")
    twice = SimpleNamespace(nodeid="tests/test_a.py::test_twice", longrepr=crash)
    stats = {"rerun": [once, in_its_setup, twice], "failed": [twice]}
    assert list(flaky(stats)) == [
        "flaky: tests/test_a.py::test_once failed once: assert 1 == 2",
        "flaky: tests/test_a.py::test_setup failed once: no server",
    ]
