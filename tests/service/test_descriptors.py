"""The limit of file descriptors, and what connections may take of it."""

from __future__ import annotations

import resource

import pytest

from service import descriptors
from service.descriptors import max_connections, raise_limit

SOFT_AND_HARD = [
    ((1_024, 1_024), 1_024),
    ((1_024, 20_000), 20_000),
    ((1_024, 1_048_576), descriptors.WANTED_DESCRIPTORS),
    ((1_024, resource.RLIM_INFINITY), descriptors.WANTED_DESCRIPTORS),
    ((200_000, 200_000), 200_000),
    ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), descriptors.WANTED_DESCRIPTORS),
]


@pytest.mark.parametrize(("given", "expected"), SOFT_AND_HARD)
def test_the_soft_limit_is_raised_as_far_as_is_allowed(
    monkeypatch: pytest.MonkeyPatch, given: tuple[int, int], expected: int
) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: given)
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: asked.append(limits))
    assert raise_limit() == expected
    assert asked == ([(expected, given[1])] if 0 < given[0] < expected else [])


@pytest.mark.parametrize(
    ("available", "expected"), [(1_024, 384), (65_536, 4_096), (8_192, 3_968), (100, 16)]
)
def test_both_apis_together_leave_the_reserve(available: int, expected: int) -> None:
    assert max_connections(available, 4_096) == expected
