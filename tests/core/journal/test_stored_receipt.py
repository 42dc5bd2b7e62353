"""Stored receipts: rebuilt from an equal request into the first answer."""

from __future__ import annotations

from uuid import UUID

import pytest

from core.error_codes import ErrorCode
from core.errors import IngestError
from core.journal.stored_receipt import (
    Claim,
    StoredReceipt,
    other_body,
    replay_events,
    replay_snapshot,
)
from core.models import Actor, Event, Malformed, Rejection, Snapshot, Worker
from tests.support.strategies import CALLER

SOMEBODY = Actor(external_id="crm-user-1")
REJECTION = Rejection(1, ErrorCode.INVALID_BODY, "events[1].duration: must be at least 0")
EVENTS = (
    Event("deal.won", "code", SOMEBODY, "2026-04-19T14:00:00+02:00"),
    Event("deal.won", "code", SOMEBODY, duration=-1),
    Malformed(("no",), b"{}"),
    Event("deal.lost", "code", SOMEBODY),
)


def test_a_batch_is_answered_as_the_first_time() -> None:
    rejected = (REJECTION, Rejection(2, ErrorCode.INVALID_BODY, "no"))
    receipt = replay_events(StoredReceipt("req_1", 1_776_600_300_000_000, rejected), EVENTS)
    assert (receipt.request_id, receipt.accepted, receipt.rejected) == ("req_1", 2, rejected)
    assert [(echo.event_type, echo.timestamp) for echo in receipt.echoes] == [
        ("deal.won", "2026-04-19T12:00:00Z"),
        ("deal.lost", 1_776_600_300_000_000),  # of its receipt: each API writes it
    ]
    assert receipt.replayed


def test_a_snapshot_is_answered_as_the_first_time() -> None:
    worker = Worker(UUID(int=7), "Alex Chen")
    stored = StoredReceipt("req_1", 1, (), worker)
    receipt = replay_snapshot(stored, Snapshot("tickets_open", b"{}"))
    assert (receipt.request_id, receipt.worker, receipt.replayed) == ("req_1", worker, True)


def test_another_body_under_a_used_key_is_refused() -> None:
    assert other_body().code == "invalid_body"
    assert "already used with a different body" in other_body().message


@pytest.mark.parametrize("key", ["", "k" * 201, "a\0b"])
def test_a_key_of_a_wrong_form_is_refused_by_its_name(key: str) -> None:
    with pytest.raises(IngestError, match="Idempotency-Key: must") as caught:
        Claim.of(CALLER, "events", key)
    assert caught.value.code is ErrorCode.INVALID_BODY
