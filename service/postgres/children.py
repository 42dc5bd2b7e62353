"""The keeper's child processes: how they begin, how they are ended, and who inherits theirs.

Standard library only, as the keeper starts without site-packages.
"""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from service.postgres.own_id import has_name, with_name

LINUX = sys.platform == "linux"
POLL_SECONDS = 0.02
ORPHAN_SECONDS = 0.5  # for the last processes of a killed postmaster to end
ORPHAN_POLL_SECONDS = 0.002
# How a postmaster is ended: fast shutdown, then immediate shutdown, then no choice at all.
STOP_LADDER = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 6.0), (signal.SIGKILL, 4.0))


def die_with_parent(death_signal: signal.Signals) -> Callable[[], None] | None:
    """A function for a child to run before exec, so that it does not outlive this process.

    On Linux the kernel sends the child the signal, however the parent ends. Elsewhere it is None,
    and the next keeper stops a postmaster that was left (`Cluster.stop_predecessor`).
    """
    if not LINUX:
        return None
    prctl, set_parent_death_signal, parent = ctypes.CDLL(None).prctl, 1, os.getpid()

    def before_exec() -> None:
        prctl(set_parent_death_signal, int(death_signal))
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return before_exec


def before_creation() -> Callable[[], None] | None:
    """A function for a child that is to create a cluster, which takes a user with a name."""
    end_with_parent = die_with_parent(signal.SIGKILL)
    if not LINUX or end_with_parent is None or has_name(os.geteuid()):
        return end_with_parent
    take_name = with_name(os.geteuid(), os.getegid())

    def before_exec() -> None:
        take_name()
        end_with_parent()

    return before_exec


def adopt_orphans() -> None:
    """Have the kernel give this process the children of a postmaster that has ended."""
    if LINUX:
        set_child_subreaper = 36
        ctypes.CDLL(None).prctl(set_child_subreaper, 1)


def end_orphans() -> None:
    """End what a postmaster has left, and wait for it: another cannot start beside it.

    It is killed, as nothing but a crash's recovery can follow.
    """
    if not LINUX:
        time.sleep(ORPHAN_SECONDS)
        return
    deadline = time.monotonic() + ORPHAN_SECONDS
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    with suppress(ChildProcessError):  # there is none
        while time.monotonic() < deadline:
            with suppress(OSError):
                for pid in map(int, children.read_text().split()):
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(ORPHAN_POLL_SECONDS)


def descend(pid: int, is_gone: Callable[[], bool]) -> None:
    """Send the signals of STOP_LADDER, one after the other, until the process is gone."""
    for stop_signal, seconds in STOP_LADDER:
        with suppress(ProcessLookupError):
            os.kill(pid, stop_signal)
        deadline = time.monotonic() + seconds
        while not is_gone():
            if time.monotonic() > deadline:
                break
            time.sleep(POLL_SECONDS)
        else:
            return
