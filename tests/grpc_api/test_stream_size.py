"""What streams take room for, which is what the journal then holds for them."""

from __future__ import annotations

from msgspec import structs

from core import limits
from core.journal.pending import PendingEvents
from core.models import Actor, Event, EventBatch
from grpc_api.stream import draft_bytes
from tests.support.strategies import CALLER

RECEIVED_US = 1_776_600_300_123_456


def test_a_stream_takes_room_for_all_that_its_draft_may_take() -> None:
    longest = "t" * limits.MAX_TYPE_CHARACTERS
    caller = structs.replace(CALLER, allowed_event_types=frozenset([longest]))
    category = max(limits.CATEGORIES, key=len)
    events = [
        Event(longest, category, Actor(external_id=str(number)), RECEIVED_US, 1, b'{"a":1}')
        for number in range(limits.MAX_BATCH_EVENTS)
    ]
    batch = EventBatch("req_", events, streamed=True, size_bytes=1_000)
    draft = PendingEvents.check(caller, batch, RECEIVED_US)
    assert len(draft.slots) == len(events)
    assert draft.size_bytes == draft_bytes(batch)
