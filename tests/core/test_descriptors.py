"""File descriptors: the limit, and what of it the clients' connections may have."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from core.descriptors import (
    MAX_CONNECTIONS,
    MIN_CONNECTIONS,
    RESERVED_DESCRIPTORS,
    max_connections,
)


@pytest.mark.parametrize("descriptors", [256, 1_024, 4_096, 8_192])
def test_both_protocols_leave_the_reserve(descriptors: int) -> None:
    assert 2 * max_connections(descriptors) + RESERVED_DESCRIPTORS <= descriptors


def test_connections_are_bounded_whatever_the_limit() -> None:
    assert max_connections(1) == MIN_CONNECTIONS
    assert max_connections(1_000_000) == MAX_CONNECTIONS
    assert max_connections(resource.RLIM_INFINITY) == MAX_CONNECTIONS


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    program = (
        "import resource as r; from core.descriptors import *; "
        "r.setrlimit(r.RLIMIT_NOFILE, (100, 500)); raise_descriptor_limit(); "
        "print(*r.getrlimit(r.RLIMIT_NOFILE), max_connections())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["500", "500", str((500 - RESERVED_DESCRIPTORS) // 2)]
