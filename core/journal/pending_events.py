"""A pending batch of events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from msgspec import structs

from core.errors import IngestError
from core.journal.pending import MIN_ITEM_BYTES, MIN_REQUEST_BYTES, PendingRequest, Verdict
from core.journal.stored_receipt import Claim, Scope, StoredReceipt, replay_events
from core.models import Caller, Event, EventBatch, EventColumns, Malformed, Receipt
from core.postgres.copy_rows import MAX_TAIL_BYTES
from core.rules import fingerprint
from core.rules.event_batch import CheckedEvents, check_events

_REFUSED: Final = Malformed((), b"")  # stands for a malformed event, whose content is not kept


class PendingEvents(PendingRequest):
    """A batch of events, judged by the rules that need no database."""

    def __init__(
        self, caller: Caller, batch: EventBatch, received_us: int, checked: CheckedEvents
    ) -> None:
        self.checked = checked
        self.position = batch.position
        self._events: Sequence[Event | Malformed] = ()
        claim = None
        if batch.idempotency_key is not None:
            scope = Scope(caller.organization_id, caller.key_id, "events", batch.idempotency_key)
            claim = Claim(scope, fingerprint.events_digest(batch.events))
            self._events = [
                _REFUSED if isinstance(event, Malformed) else event for event in batch.events
            ]
        super().__init__(
            caller,
            batch.request_id,
            received_us,
            checked.actor_indexes,
            checked.names,
            checked.actors,
            checked.rejected,
            claim,
            batch.size_bytes,
        )
        self.is_streamed = batch.streamed
        self.size_bytes += sum(map(len, checked.tails))

    @classmethod
    def check(cls, caller: Caller, batch: EventBatch, received_us: int) -> PendingEvents:
        """Judge the batch by the rules that need no database."""
        checked = check_events(caller, batch.events, received_us, echo=not batch.streamed)
        return cls(caller, batch, received_us, checked)

    def first_id(self) -> UUID:
        """The id of the first event that will be written."""
        return UUID(int=self.checked.first_id.int + self.accepted[0])

    def item_path(self, position: int) -> tuple[int, str]:
        index = self.checked.indexes[position]
        return index, f"events[{index}]"

    def receipt(self) -> Receipt:
        echoes, accepted = self.checked.echoes, len(self.accepted)
        if echoes and accepted != len(echoes):
            echoes = [echoes[position] for position in self.accepted]
        return Receipt(self.request_id, accepted, echoes, self.rejected, quota_left=self.quota_left)

    def replay_of(self, stored: StoredReceipt) -> Receipt:
        return replay_events(stored, self._events)

    def outcome(self) -> Verdict:
        if not self.is_streamed:
            return super().outcome()
        if isinstance(self.replay, Receipt):
            return structs.replace(self.replay, quota_left=self.quota_left)
        return self.replay or self.receipt()

    def refusal(self) -> IngestError:
        error = super().refusal()
        error.rejected = self.rejected
        return error


def most_bytes(batch: EventBatch) -> int:
    """An upper bound of the ``size_bytes`` of the batch once it is pending.

    A stream asks for room before the batch is judged, under the rights in force by then.
    """
    events = batch.events
    if isinstance(events, EventColumns):
        texts = events.metadata
    else:
        texts = [event.metadata for event in events if isinstance(event, Event)]
    items = len(events) * (MIN_ITEM_BYTES + MAX_TAIL_BYTES)
    return batch.size_bytes + MIN_REQUEST_BYTES + items + sum(map(len, filter(None, texts)))
