"""The state that server processes share, and their rate buckets."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from uuid import UUID

import pytest

from service.processes.shared_state import SharedState

# A process that takes the lock on the buckets, says so, and keeps it until its stdin ends.
HOLDER = (
    "import fcntl, sys; fcntl.lockf(int(sys.argv[1]), fcntl.LOCK_EX, 1); "
    "print('held', flush=True); sys.stdin.read()"
)
RATE = 10


@pytest.fixture
def shared() -> Iterator[int]:
    """The memory of a state of four processes."""
    descriptor = SharedState.share(4)
    yield descriptor
    os.close(descriptor)


def test_the_whole_is_ready_with_all_at_first_and_then_with_half(shared: int) -> None:
    supervisor, process = SharedState(4, shared), SharedState(4, shared)
    for number in range(4):
        assert process.problem() == f"{number} of 4 server processes accept traffic"
        supervisor.set_ready(number, True)
    supervisor.start()
    assert process.problem() is None
    for number in (3, 0):
        supervisor.set_ready(number, False)
    assert (process.problem(), process.ready()) == (None, 2)
    supervisor.set_ready(1, False)
    assert process.problem() == "1 of 4 server processes accept traffic"
    supervisor.set_ready(0, True)
    assert process.problem() is None
    supervisor.drain()
    assert process.problem() == "shutting down"


def test_a_service_of_one_process_is_ready_by_itself() -> None:
    shared_state = SharedState.of_one()
    assert (shared_state.problem(), shared_state.ready(), shared_state.restarts()) == (None, 1, 0)


def test_one_that_hangs_with_the_lock_does_not_stop_the_others(shared: int) -> None:
    buckets = SharedState(4, shared).buckets
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(shared)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=(shared,),
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        begin = time.monotonic()
        with buckets.exclusive():
            assert buckets.fill(UUID(int=1), RATE, 100) == RATE
        assert time.monotonic() - begin < 5
        holder.kill()
    seconds = []
    for _ in range(20):  # a neighbour's work must not fail the test
        begin = time.monotonic()
        with buckets.exclusive():
            pass
        seconds.append(time.monotonic() - begin)
    assert min(seconds) < 0.005
