"""The CPU time of processes that come and go."""

from __future__ import annotations

import itertools
import subprocess
import sys

import pytest

from service.bench import resources

FORK_ENDLESSLY = """
import os, time
while True:
    if not os.fork():
        end = time.process_time() + 0.04
        while time.process_time() < end:
            pass
        os._exit(0)
    os.wait()
"""


@pytest.mark.timed
def test_cpu_time_is_not_lost_with_processes_that_end() -> None:
    with subprocess.Popen([sys.executable, "-c", FORK_ENDLESSLY]) as parent:
        try:
            processes = resources.of_pid(parent.pid)
            seconds = [processes.cpu_seconds() for _ in range(250)]
        finally:
            parent.kill()
    for before, after in itertools.pairwise(seconds):
        assert after > before - 0.03  # what a process that ended had used is more, ticks are less
