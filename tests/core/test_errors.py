"""The core's errors, and what of them is logged."""

from __future__ import annotations

import logging

import pytest

from core.error_codes import ErrorCode
from core.errors import IngestError, log_internal, unavailable

log = logging.getLogger(__name__)


def caused(error: IngestError) -> IngestError:
    try:
        raise error from KeyError("the\ncause")
    except IngestError as raised:
        return raised


def test_a_failure_that_a_retry_can_cure_says_when() -> None:
    error = unavailable("Retry shortly.", 2.5)
    assert (error.code, error.transient, error.retry_after_seconds) == ("internal_error", True, 2.5)


def test_an_internal_error_is_logged_with_its_cause_and_request_id(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log_internal(log, caused(IngestError(ErrorCode.INTERNAL_ERROR, "It failed.")), "req_1")
    [record] = caplog.records
    assert (record.levelname, getattr(record, "request_id", None)) == ("ERROR", "req_1")
    assert record.getMessage() == "answered internal_error: It failed. ('the\\ncause')"
    assert record.exc_info is not None


def test_a_transient_one_is_a_warning_without_traceback(caplog: pytest.LogCaptureFixture) -> None:
    log_internal(log, caused(unavailable("Retry shortly.")), "req_1")
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert not record.exc_info


def test_a_client_s_error_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    log_internal(log, IngestError(ErrorCode.INVALID_BODY, "events: must hold an event"), "req_1")
    assert caplog.records == []
