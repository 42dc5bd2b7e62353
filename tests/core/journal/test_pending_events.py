"""A pending batch of events: the memory that it may take."""

from __future__ import annotations

from msgspec import structs

from core import limits
from core.journal.pending_events import PendingEvents, most_bytes
from core.models import Actor, Event, EventBatch
from tests.support.strategies import CALLER

RECEIVED_US = 1_776_600_300_123_456


def test_the_memory_asked_for_a_batch_is_what_it_takes_at_most() -> None:
    longest = "t" * limits.MAX_TYPE_CHARACTERS
    caller = structs.replace(CALLER, allowed_event_types=frozenset([longest]))
    category = max(limits.CATEGORIES, key=len)
    events = [
        Event(longest, category, Actor(external_id=str(number)), RECEIVED_US, 1, b'{"a":1}')
        for number in range(limits.MAX_BATCH_EVENTS)
    ]
    batch = EventBatch("req_", events, streamed=True, size_bytes=1_000)
    request = PendingEvents.check(caller, batch, RECEIVED_US)
    assert len(request.actor_indexes) == len(events)
    assert request.size_bytes == most_bytes(batch)
