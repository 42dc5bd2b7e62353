"""Tests in several processes: a folder that they share, and quiet for those that need it."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TextIO

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

    Tests of earlier kinds come first, also those that ask while one of a later kind waits: if kinds
    took turns, most processes would wait at each change. The kinds of a run end one by one.
    """
    rank = KINDS.index(kind)
    with contextlib.ExitStack() as stack:

        def open_files(*names: str) -> list[TextIO]:
            return [stack.enter_context((folder / name).open("w")) for name in names]

        wanted = open_files(*(f"wanted-{one}" for one in KINDS))
        running = open_files(*(f"running-{one}" for one in KINDS))
        (entrance,) = open_files("entrance")
        in_the_way = [*wanted[:rank], *running[rank + 1 :]]
        with _locked(wanted[rank], fcntl.LOCK_SH):  # until the test has ended
            while True:
                with _locked(entrance, fcntl.LOCK_EX):
                    if all(map(is_free, in_the_way)) and _try_to_lock(
                        running[rank], fcntl.LOCK_EX if kind == "alone" else fcntl.LOCK_SH
                    ):
                        break
                time.sleep(_POLL_SECONDS)
            try:
                yield
            finally:
                fcntl.flock(running[rank], fcntl.LOCK_UN)


@contextlib.contextmanager
def _locked(file: TextIO, operation: int) -> Iterator[None]:
    fcntl.flock(file, operation)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)  # a forked process may have the file open, too


def _try_to_lock(file: TextIO, operation: int) -> bool:
    try:
        fcntl.flock(file, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_free(file: TextIO) -> bool:
    """Whether nobody has locked the file."""
    if not _try_to_lock(file, fcntl.LOCK_EX):
        return False
    fcntl.flock(file, fcntl.LOCK_UN)
    return True


def kind_of(item: pytest.Item) -> str:
    """The kind of a test, by its mark."""
    return next((kind for kind in KINDS[1:] if item.get_closest_marker(kind)), USUAL)


def make_printable(report: pytest.TestReport) -> None:
    """Have no lone surrogate in what a test has printed: processes exchange reports as UTF-8."""
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections
    ]
