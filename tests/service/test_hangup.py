"""The terminal of a service that is closed, and SIGHUP without one."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

from tests.support.service_process import PROJECT

WAIT_SECONDS = 30.0
# Makes the terminal of stdin the controlling one, and becomes the service.
_IN_TERMINAL = """
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGHUP, signal.SIG_IGN if sys.argv[1] == "nohup" else signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, "-m", "service.cli", *sys.argv[2:]])
"""


class Terminal:
    """A terminal with a service in it."""

    def __init__(self, database_url: str, how: str, workers: int) -> None:
        self._ours, theirs = os.openpty()
        address = "127.0.0.1:0"
        arguments = ["serve", "--json", "--http", address, "--grpc", address]
        self.process = subprocess.Popen(
            [sys.executable, "-c", _IN_TERMINAL, how, *arguments, "--workers", str(workers)],
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd=PROJECT,
            env={**os.environ, "DATABASE_URL": database_url},
        )
        os.close(theirs)
        assert self.process.stdout is not None
        self.url = str(json.loads(self.process.stdout.readline())["http"])

    def close(self) -> None:
        """Hang up."""
        if self._ours >= 0:
            os.close(self._ours)
            self._ours = -1

    def is_serving(self) -> bool:
        """Whether it answers."""
        return httpx.get(f"{self.url}/healthz", timeout=WAIT_SECONDS).status_code == 200


@contextlib.contextmanager
def terminal(database_url: str, how: str = "plainly", workers: int = 1) -> Iterator[Terminal]:
    """A service in a terminal, which is closed in the end; nothing of it remains."""
    one = Terminal(database_url, how, workers)
    try:
        yield one
    finally:
        one.close()
        one.process.terminate()
        one.process.wait(WAIT_SECONDS)
        assert one.process.stdout is not None
        one.process.stdout.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_closed_terminal_ends_the_service_in_order_and_sighup_before_does_not(
    database_url: str, workers: int
) -> None:
    with terminal(database_url, workers=workers) as one:
        one.process.send_signal(signal.SIGHUP)
        assert one.is_serving()
        one.close()
        assert one.process.wait(WAIT_SECONDS) == 0


def test_whoever_asked_to_outlive_the_terminal_does(database_url: str) -> None:
    with terminal(database_url, "nohup") as one:
        one.close()
        one.process.send_signal(signal.SIGHUP)
        assert one.is_serving()
        assert one.process.poll() is None
