"""Answers to requests that were not written."""

from __future__ import annotations

import psycopg
import pytest

from core.errors import UnknownCommitStatusError
from core.journal.failures import answer_to, too_late
from core.journal.pending_events import PendingEvents
from core.models import Actor, Event, EventBatch
from tests.support.strategies import CALLER

BATCH = EventBatch("req_", [Event("deal.won", "code", Actor(external_id="crm-user-1"))])


@pytest.mark.parametrize(
    ("error", "transient", "said"),
    [
        (psycopg.OperationalError("gone"), True, "cannot reach its storage"),
        (psycopg.errors.QueryCanceled(), True, "too busy"),
        (UnknownCommitStatusError(), True, "may or may not be stored"),
        (psycopg.errors.UndefinedTable(), False, "failed unexpectedly"),
    ],
)
def test_an_error_is_answered_by_whether_a_retry_can_help(
    error: Exception, transient: bool, said: str
) -> None:
    answer = answer_to(error)
    assert (answer.code, answer.transient) == ("internal_error", transient)
    assert said in answer.message
    assert answer.__cause__ is error


def test_a_request_whose_time_is_over_is_told_where_it_was() -> None:
    request = PendingEvents.check(CALLER, BATCH, 1_776_600_300_123_456)
    assert "overloaded" in too_late(request).message
    request.lock_wait = CALLER.organization_id
    assert "still being written" in too_late(request).message
    request.is_being_written = True
    assert "may or may not be stored" in too_late(request).message
