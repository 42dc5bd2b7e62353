"""The log of background work that fails again and again."""

from __future__ import annotations

import logging
import re

import psycopg
import pytest

from core.failure_log import LOG_SECONDS, FailureLog, one_line, stack
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


VALUE = "somebody@example.com"


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("INSERT INTO t VALUES (%s, 1), (%s, 1)", r"duplicate key.* \(23505, t, t_pkey\)"),
        ("INSERT INTO t VALUES (%s, NULL), (%s, 1)", r"null value .* \(23502, t, number\)"),
        ("INSERT INTO t VALUES (%s, -1), (%s, 1)", r"new row .* \(23514, t, positive\)"),
        ("SELECT %s || %s::int", r"InvalidTextRepresentation \(22P02\)"),
        ("SELECT %s || %s::timestamptz", r"InvalidDatetimeFormat \(22007\)"),
    ],
)
def test_an_error_of_the_database_repeats_no_value(
    database_url: str, statement: str, told: str
) -> None:
    with psycopg.connect(database_url) as db:
        db.execute(
            "CREATE TEMPORARY TABLE t (person text PRIMARY KEY, number int NOT NULL, "
            "CONSTRAINT positive CHECK (number > 0))"
        )
        with pytest.raises(psycopg.Error) as raised:
            db.execute(statement.encode(), (VALUE, VALUE))
        db.rollback()
    error = raised.value
    assert VALUE in str(error)
    assert re.fullmatch(told, one_line(error))
    try:
        try:
            raise ExceptionGroup("several", [error]) from error
        except ExceptionGroup as group:
            raise KeyError("behind it") from group
    except KeyError as last:
        text = stack(last)
    assert VALUE not in text
    assert text.count("Traceback") >= 3
    assert text.count(one_line(error)) == 2
    assert text.endswith("KeyError: 'behind it'")
