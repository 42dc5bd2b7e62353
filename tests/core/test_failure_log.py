"""The log of background work that fails again and again."""

from __future__ import annotations

import logging

import pytest

from core.failure_log import LOG_SECONDS, FailureLog
from tests.support.manual_time import ManualTime

log = logging.getLogger(__name__)


def test_a_line_a_minute_with_the_stack_of_what_nobody_expects(
    caplog: pytest.LogCaptureFixture,
) -> None:
    time = ManualTime()
    failures = FailureLog(log, time.clock)
    for _ in range(3):
        failures.note("work failed", OSError("Too many\nopen files"), expected=True)
    assert [record.getMessage() for record in caplog.records] == [
        "work failed: Too many open files"
    ]
    time.advance(LOG_SECONDS)
    failures.note("work failed", KeyError("x"), expected=False)
    assert len(caplog.records) == 2
    assert caplog.records[1].exc_info is not None
