"""A pending batch of events."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from msgspec import structs

from core.errors import IngestError
from core.journal.pending import PendingRequest, Verdict
from core.journal.stored_receipt import Claim, StoredReceipt, replay_events
from core.json_text import Stored
from core.models import Caller, EventBatch, EventColumns, Events, Malformed, Receipt
from core.rules import fingerprint
from core.rules.event_batch import CheckedEvents, by_columns, check_events, check_metadata
from core.slices import SLICE_BYTES, InTurns, at_once, in_turns, uncollected

_REFUSED: Final = Malformed((), b"")  # stands for a malformed event, whose content is not kept

# A smaller batch is judged in one go.
MIN_PREPARED_BYTES: Final = 2 * SLICE_BYTES


async def prepared(batch: EventBatch, run: InTurns = in_turns) -> EventBatch:
    """The batch by columns, with the long part of judging it done in slices if it is large."""
    batch = structs.replace(batch, events=by_columns(batch.events))
    if batch.size_bytes < MIN_PREPARED_BYTES:
        return batch
    stored = await run(check_metadata(batch.events))
    digest = None
    if batch.idempotency_key is not None:
        digest = await run(fingerprint.events_digest_in_slices(batch.events, stored))
    return structs.replace(batch, stored=stored, digest=digest)


def _without_content(events: Events) -> Events:
    if isinstance(events, EventColumns):
        return events
    return [_REFUSED if isinstance(event, Malformed) else event for event in events]


class PendingEvents(PendingRequest):
    """A batch of events, judged once: alone, or with others (core/journal/judging.py)."""

    checked: CheckedEvents

    def __init__(self, caller: Caller, batch: EventBatch, received_us: int) -> None:
        """A batch to be judged later; raises ``invalid_body`` for its idempotency key alone."""
        self.position = batch.position
        self.size_bytes = batch.size_bytes
        self.batch: EventBatch | None = batch  # until it is judged
        self._events: Events = ()
        claim = Claim.of(caller, "events", batch.idempotency_key)
        super().__init__(caller, batch.request_id, received_us, len(batch.events), claim)
        self.is_streamed = batch.streamed
        self.span = batch.span

    @property
    def unjudged_bytes(self) -> int:
        return 0 if self.is_judged else self.size_bytes

    @classmethod
    def check(cls, caller: Caller, batch: EventBatch, received_us: int) -> PendingEvents:
        """Judge the batch alone and now."""
        request = cls(caller, batch, received_us)
        stored, digest = batch.stored, batch.digest
        if stored is None:
            stored = at_once(check_metadata(batch.events))
        if digest is None and request.claim is not None:
            with uncollected(batch.size_bytes):
                digest = fingerprint.events_digest(batch.events, stored)
        request.judge(stored, digest)
        return request

    def judge(self, stored: Stored, digest: bytes | None) -> None:
        """Judge the batch; ``stored`` and ``digest`` as :class:`EventBatch` has them.

        The digest may be None if the batch has no idempotency key.
        """
        batch = self.batch
        assert batch is not None
        if self.claim is not None:
            assert digest is not None
            self.claim.fingerprint = digest
            self._events = _without_content(batch.events)
        self.checked = checked = check_events(
            self.caller,
            batch.events,
            stored,
            self.received_us,
            echo=not batch.streamed,
            size_bytes=batch.size_bytes,
        )
        self.batch = None
        self.note_judged(checked.actor_indexes, checked.names, checked.actors, checked.rejected)

    def first_id(self) -> UUID:
        """The id of the first event that will be written."""
        return UUID(int=self.checked.first_id + self.accepted[0])

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
