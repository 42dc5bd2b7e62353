"""Log lines of refused requests: one each, so many of a kind, and a count of the others."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from msgspec import structs

from core import refusal_log
from core.error_codes import ErrorCode
from core.refusal_log import MAX_LINES, PERIOD_SECONDS, RefusalLog, RefusedRequest
from tests.support.manual_time import ManualTime
from tests.support.strategies import CALLER

REQUEST = RefusedRequest("req_1", "http", "events", "400", 3, 1.5)


@pytest.fixture
def lines() -> Iterator[list[logging.LogRecord]]:
    """The lines logged at info or above."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler(logging.INFO)
    handler.emit = records.append  # type: ignore[method-assign, assignment]
    refusal_log.log.addHandler(handler)
    level = refusal_log.log.level
    refusal_log.log.setLevel(logging.INFO)
    yield records
    refusal_log.log.setLevel(level)
    refusal_log.log.removeHandler(handler)


def test_a_line_tells_whose_request_was_refused_and_how(lines: list[logging.LogRecord]) -> None:
    RefusalLog(ManualTime().clock).note(ErrorCode.INVALID_BODY, REQUEST, CALLER)
    [line] = lines
    assert line.levelno == logging.INFO
    assert (
        vars(line).items()
        >= {
            "request_id": "req_1",
            "protocol": "http",
            "endpoint": "events",
            "code": "invalid_body",
            "status": "400",
            "organization": "org_00000000000000000000000002",
            "app": "crm-hub",
            "key_hint": "0f3a",
            "events": 3,
            "milliseconds": 1.5,
        }.items()
    )


def test_a_flood_has_so_many_lines_and_a_count(lines: list[logging.LogRecord]) -> None:
    time = ManualTime()
    log = RefusalLog(time.clock)
    other = structs.replace(CALLER, organization_id=CALLER.key_id)
    for _ in range(MAX_LINES + 7):
        log.note(ErrorCode.RATE_LIMITED, REQUEST, CALLER)
        log.note(ErrorCode.INVALID_KEY, REQUEST, None)
    assert len(lines) == 2 * MAX_LINES
    log.note(ErrorCode.RATE_LIMITED, REQUEST, other)
    log.note(ErrorCode.INVALID_BODY, REQUEST, CALLER)
    assert len(lines) == 2 * MAX_LINES + 2
    log.sweep()
    assert len(lines) == 2 * MAX_LINES + 2

    time.advance(PERIOD_SECONDS)
    log.sweep()
    counts = {vars(line)["code"]: vars(line)["left_out"] for line in lines[-2:]}
    assert counts == {"rate_limited": 7, "invalid_key": 7}
    log.note(ErrorCode.RATE_LIMITED, REQUEST, CALLER)
    assert vars(lines[-1])["request_id"] == "req_1"


def test_internal_errors_are_logged_elsewhere(lines: list[logging.LogRecord]) -> None:
    RefusalLog(ManualTime().clock).note(ErrorCode.INTERNAL_ERROR, REQUEST, CALLER)
    assert lines == []


def test_it_remembers_so_many_kinds(
    lines: list[logging.LogRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusal_log, "MAX_TRACKED", 1)
    log = RefusalLog(ManualTime().clock)
    log.note(ErrorCode.RATE_LIMITED, REQUEST, CALLER)
    log.note(ErrorCode.INVALID_BODY, REQUEST, CALLER)
    assert [vars(line)["code"] for line in lines] == ["rate_limited"]
