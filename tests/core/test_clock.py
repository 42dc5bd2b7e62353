"""The clock."""

from __future__ import annotations

from core.clock import Clock


def test_the_clock_counts_microseconds_and_monotonic_seconds() -> None:
    clock = Clock()
    assert 1_700_000_000_000_000 < clock.now_us() < 10_000_000_000_000_000
    assert clock.monotonic() <= clock.monotonic()


def test_a_test_can_set_the_time() -> None:
    clock = Clock(lambda: 7, lambda: 1.5)
    assert (clock.now_us(), clock.monotonic()) == (7, 1.5)
