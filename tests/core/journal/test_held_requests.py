"""How many requests are held, and how much of memory."""

from __future__ import annotations

import pytest

import core.journal.held_requests
from core.errors import IngestError
from core.journal.held_requests import HeldRequests
from core.journal.pending_events import PendingEvents
from core.models import Actor, Event, EventBatch
from tests.support.strategies import CALLER

RECEIVED_US = 1_776_600_300_123_456
EVENT = Event("deal.won", "code", Actor(external_id="crm-user-1"))


def _pending(events: int = 1) -> PendingEvents:
    return PendingEvents.check(CALLER, EventBatch("req_", [EVENT] * events), RECEIVED_US)


def test_a_request_counts_until_it_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core.journal.held_requests, "MAX_HELD_REQUESTS", 2)
    first, second, third = _pending(), _pending(), _pending()
    held = HeldRequests()
    held.add(first)
    held.add(second)
    with pytest.raises(IngestError):
        held.add(third)
    held.remove(first)
    held.add(third)
    assert len(held) == 2


def test_the_bytes_of_a_request_count_until_it_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    large, small = _pending(500), _pending()
    monkeypatch.setattr(core.journal.held_requests, "MAX_HELD_BYTES", large.size_bytes)
    held = HeldRequests()
    held.add(large)
    with pytest.raises(IngestError):
        held.add(small)
    held.remove(large)
    held.add(small)


def test_the_first_ones_are_given_up_first() -> None:
    requests = [_pending() for _ in range(4)]
    held = HeldRequests()
    for number, request in enumerate(requests):
        request.give_up_at = number
        held.add(request)
    held.remove(requests[0])
    assert held.due_by(2) == requests[1:3]
