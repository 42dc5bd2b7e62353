"""Tests in several processes: a folder that they share, and quiet for those that measure."""

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
def permission_to_run(folder: Path, *, alone: bool) -> Iterator[None]:
    """Let a test run within the block: beside those of other processes, or alone.

    The entrance is passed one by one. A test that waits to be alone stands in it, so that those
    behind it cannot keep it waiting for ever.
    """
    with (folder / "entrance").open("w") as entrance, (folder / "running").open("w") as running:
        fcntl.flock(entrance, fcntl.LOCK_EX)
        fcntl.flock(running, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(entrance, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(running, fcntl.LOCK_UN)  # a forked process may have the file open, too


def is_alone(item: pytest.Item) -> bool:
    """Whether a test is marked so."""
    return item.get_closest_marker("alone") is not None


def make_printable(report: pytest.TestReport) -> None:
    """Have no lone surrogate in what a test has printed: processes exchange reports as UTF-8."""
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections
    ]
