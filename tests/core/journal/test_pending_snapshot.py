"""A pending snapshot: a batch of one whose messages name no index."""

from __future__ import annotations

import pytest

from core import ids
from core.errors import IngestError
from core.journal.pending_snapshot import PendingSnapshot
from core.journal.stored_receipt import StoredReceipt
from core.models import Actor, Snapshot, SnapshotReceipt, SnapshotRequest, Worker
from core.rules.snapshot import check_texts
from core.slices import at_once
from tests.support.strategies import CALLER

RECEIVED_US = 1_776_600_300_123_456
WORKER = Worker(ids.new(RECEIVED_US), "Alex")


def pending(actor: Actor | None = None, key: str | None = None) -> PendingSnapshot:
    """A snapshot of an actor that an app's own id names, unless another is given."""
    actor = actor or Actor(external_id="crm-user-1")
    request = SnapshotRequest("req_1", Snapshot("tickets_open", b'{"open": 12}', actor), key)
    return PendingSnapshot.check(
        CALLER, request, at_once(check_texts(request.snapshot)), RECEIVED_US
    )


def test_the_receipt_names_the_worker() -> None:
    snapshot = pending()
    snapshot.workers = [WORKER]
    assert snapshot.outcome() == SnapshotReceipt("req_1", "tickets_open", WORKER)


def test_an_unknown_worker_refuses_it_by_the_path_of_the_field() -> None:
    snapshot = pending(Actor(worker_id="wrk_" + "0" * 26))
    snapshot.workers = [None]
    snapshot.reject_unknown_workers()
    outcome = snapshot.outcome()
    assert isinstance(outcome, IngestError)
    assert outcome.code == "worker_not_found"
    assert outcome.message == "actor.workerId: no worker of this organization has this id"


def test_an_equal_snapshot_is_replayed_with_the_worker_of_the_first() -> None:
    first, again = pending(key="a"), pending(key="a")
    first.workers = [WORKER]
    assert first.claim is not None
    again.answer_from(first.claim.fingerprint, first.stored_receipt())
    replayed = SnapshotReceipt("req_1", "tickets_open", WORKER, replayed=True)
    assert again.outcome() == replayed


def test_another_body_under_the_key_is_refused() -> None:
    snapshot = pending(key="a")
    snapshot.answer_from(b"another", StoredReceipt("req_0", RECEIVED_US, (), WORKER))
    outcome = snapshot.outcome()
    assert isinstance(outcome, IngestError)
    assert outcome.code == "invalid_body"


def test_a_snapshot_that_breaks_a_rule_is_refused_before_the_database() -> None:
    request = SnapshotRequest("req_1", Snapshot("tickets_open", b'{"open": []}', Actor(email="a")))
    with pytest.raises(IngestError):
        PendingSnapshot.check(CALLER, request, at_once(check_texts(request.snapshot)), RECEIVED_US)
