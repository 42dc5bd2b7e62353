"""A pending request: decisions of the database move items from accepted to rejected."""

from __future__ import annotations

from core.journal.pending import PendingRequest
from core.journal.pending_events import PendingEvents
from core.models import Actor, Event, EventBatch, Malformed, WorkerById
from tests.support.strategies import CALLER

RECEIVED_US = 1_776_600_300_123_456
SOMEBODY = Actor(external_id="crm-user-1")
NOBODY = Actor(worker_id="wrk_" + "0" * 26)


def pending(*actors: Actor | None) -> PendingRequest:
    """A batch with an event for each actor; None is a malformed event."""
    events = [
        Malformed(("no",), b"{}") if actor is None else Event("deal.won", "code", actor)
        for actor in actors
    ]
    return PendingEvents.check(CALLER, EventBatch("req_", events), RECEIVED_US)


def rejections(request: PendingRequest) -> list[tuple[int, str]]:
    """The index and code of each rejected item."""
    return [(rejection.index, rejection.code) for rejection in request.rejected]


def test_the_last_items_are_the_ones_a_quota_rejects() -> None:
    request = pending(SOMEBODY, None, SOMEBODY, SOMEBODY)
    assert request.charge(2) == 0
    assert list(request.accepted) == [0, 1]
    assert rejections(request) == [(1, "invalid_body"), (3, "quota_exceeded")]
    assert request.charge(5) == 3


def test_items_of_unknown_workers_are_rejected_wherever_they_stand() -> None:
    request = pending(NOBODY, SOMEBODY, NOBODY)
    request.workers = [None] * len(request.names)
    assert any(isinstance(name, WorkerById) for name in request.names)
    request.reject_unknown_workers()
    assert list(request.accepted) == [1]
    assert rejections(request) == [(0, "worker_not_found"), (2, "worker_not_found")]
    assert request.rejected[0].message == (
        "events[0].actor.workerId: no worker of this organization has this id"
    )


def test_a_new_attempt_forgets_the_decisions_of_the_last() -> None:
    request = pending(SOMEBODY, None)
    request.charge(0)
    assert not list(request.accepted)
    request.reset()
    assert list(request.accepted) == [0]
    assert rejections(request) == [(1, "invalid_body")]


def test_the_refusal_is_the_first_item_s() -> None:
    request = pending(SOMEBODY, None)
    request.charge(0)
    assert request.refusal().code == "quota_exceeded"
