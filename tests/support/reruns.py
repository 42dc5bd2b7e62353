"""CI runs a failed test once more (``.ci/run``): which ones it does not, and how it tells of it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

# They look for events that are lost or doubled: once in a thousand runs is once too often.
NEVER: Final = (
    *("tests/faults", "tests/pressure", "tests/operations", "tests/core/journal"),
    *("tests/core/test_cell_transactions.py", "tests/client/stream"),
    *("tests/client/rest/test_repeats.py", "tests/behaviour/test_concurrent_transactions.py"),
    *("tests/behaviour/test_durability.py", "tests/behaviour/test_history.py"),
    *("tests/behaviour/test_idempotency.py", "tests/behaviour/test_idempotency_races.py"),
    *("tests/behaviour/test_quota.py", "tests/behaviour/test_workers.py"),
    *("tests/grpc_api/test_open_streams.py", "tests/grpc_api/test_stream_ends.py"),
    *("tests/grpc_api/test_stream_load.py", "tests/grpc_api/test_stream_sequence.py"),
    *("tests/http_api/test_replay.py", "tests/http_api/test_server.py"),
    *("tests/service/cli/produce", "tests/service/cli/commands/test_produce.py"),
    *("tests/service/postgres", "tests/service/processes"),
)
FILE_VARIABLE: Final = "FLAKY_TESTS_FILE"  # where `.ci/run` finds the lines of all runs


def exclude(config: pytest.Config) -> None:
    """Have none of those run again, if pytest-rerunfailures is in use."""
    if config.getoption("reruns", default=None):
        config.option.rerun_exclude_path = list(NEVER)


def flaky(stats: Mapping[str, Iterable[Any]]) -> Iterator[str]:
    """A line for each test that failed, and passed when it was run again."""
    failed = {one.nodeid for kind in ("failed", "error") for one in stats.get(kind, ())}
    for report in stats.get("rerun", ()):
        if report.nodeid not in failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            reason = str(crash.message if crash else report.longrepr).partition("\n")[0]
            yield f"flaky: {report.nodeid} failed once: {reason}"


def tell(reporter: pytest.TerminalReporter) -> None:
    """Write those lines where nobody reads over them, and into CI's file if it has one."""
    lines = list(flaky(reporter.stats))
    if not lines:
        return
    reporter.write_sep("!", "FLAKY TESTS, EACH A BUG TO BE FIXED", red=True, bold=True)
    for line in lines:
        reporter.write_line(line, red=True)
    if file := os.environ.get(FILE_VARIABLE):
        with Path(file).open("a", encoding="utf-8") as told:
            told.writelines(f"{line}\n" for line in lines)
