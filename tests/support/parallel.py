"""Tests in several processes: a folder that they share, and quiet for those that need it."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

# The marks of tests that do not run beside the usual ones, in the order in which they come: `timed`
# ones run beside each other, `alone` ones by themselves.
USUAL: Final = ""
KINDS: Final = (USUAL, "timed", "alone")

FOLDER: Final = pytest.StashKey[Path]()  # of a test run, the same in each of its processes

_FOLDER_NAME: Final = "test_run_folder"
_POSTGRES_STOP_SECONDS: Final = 20.0
_POLL_SECONDS: Final = 0.02


def share_folder(config: pytest.Config) -> None:
    """Take the folder that the first process has made, or make it as the first process."""
    given = getattr(config, "workerinput", {}).get(_FOLDER_NAME)
    config.stash[FOLDER] = Path(given or tempfile.mkdtemp(prefix="wepeople-test-"))


def tell_folder(config: pytest.Config, worker_input: dict[str, object]) -> None:
    """Tell a process that is about to start where the folder is."""
    worker_input[_FOLDER_NAME] = str(config.stash[FOLDER])


def remove_folder(config: pytest.Config) -> None:
    """Remove the folder as the first process, which ends last.

    PostgreSQL ends shortly after its last user, and is given the time.
    """
    if hasattr(config, "workerinput"):
        return
    folder = config.stash[FOLDER]
    deadline = time.monotonic() + _POSTGRES_STOP_SECONDS
    while list(folder.glob("postgres/*/postmaster.pid")) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def permission_to_run(folder: Path, kind: str) -> Iterator[None]:
    """Let a test run within the block: beside those of its kind in other processes, or alone.

    The entrance is passed one by one. A test that waits for those of other kinds stands in it, so
    that those behind it cannot keep it waiting for ever.
    """
    with contextlib.ExitStack() as stack:
        entrance, *running = [
            stack.enter_context((folder / f"running{name}").open("w"))
            for name in ("-entrance", *KINDS)
        ]
        own = running.pop(KINDS.index(kind))
        fcntl.flock(entrance, fcntl.LOCK_EX)
        for other in running:
            fcntl.flock(other, fcntl.LOCK_EX)
            fcntl.flock(other, fcntl.LOCK_UN)
        fcntl.flock(own, fcntl.LOCK_EX if kind == "alone" else fcntl.LOCK_SH)
        fcntl.flock(entrance, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(own, fcntl.LOCK_UN)  # a forked process may have the file open, too


def kind_of(item: pytest.Item) -> str:
    """The kind of a test, by its mark."""
    return next((kind for kind in KINDS[1:] if item.get_closest_marker(kind)), USUAL)


def make_printable(report: pytest.TestReport) -> None:
    """Have no lone surrogate in what a test has printed: processes exchange reports as UTF-8."""
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections
    ]
