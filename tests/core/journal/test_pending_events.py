"""A pending batch of events: its answer, once, partly or not at all accepted."""

from __future__ import annotations

from core.journal.pending_events import PendingEvents
from core.models import Actor, Event, EventBatch, Malformed, Receipt
from tests.support.strategies import CALLER

RECEIVED_US = 1_776_600_300_123_456
EVENT = Event("deal.won", "code", Actor(external_id="crm-user-1"), RECEIVED_US)
BROKEN = Malformed(("duration: must be an integer",), b"{}")


def pending(*events: Event | Malformed, streamed: bool = False) -> PendingEvents:
    """A batch as it is enqueued."""
    return PendingEvents.check(CALLER, EventBatch("req_", events, streamed=streamed), RECEIVED_US)


def test_a_receipt_echoes_the_accepted_events_in_their_order() -> None:
    request = pending(EVENT, BROKEN, EVENT)
    request.charge(1)
    receipt = request.outcome()
    assert isinstance(receipt, Receipt)
    assert (receipt.accepted, len(receipt.echoes)) == (1, 1)
    assert [rejection.index for rejection in receipt.rejected] == [1, 2]


def test_the_id_of_the_first_written_event_counts_from_the_first_of_the_batch() -> None:
    request = pending(EVENT, EVENT, EVENT)
    request.accepted = [2]
    assert request.first_id().int == request.checked.first_id + 2


def test_a_streamed_batch_is_answered_with_a_receipt_even_if_nothing_is_accepted() -> None:
    receipt = pending(BROKEN, streamed=True).outcome()
    assert isinstance(receipt, Receipt)
    assert (receipt.accepted, len(receipt.rejected)) == (0, 1)
