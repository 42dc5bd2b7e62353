"""Drafts: checked requests on their way to the disk, and what becomes of each item of them."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from msgspec import structs

from core.error_codes import ErrorCode
from core.errors import IngestError, StreamError
from core.journal import idempotency, producers
from core.journal.idempotency import Claim, Scope, StoredReceipt
from core.journal.producers import Progress
from core.journal.quota import Account, account
from core.models import (
    Actor,
    Caller,
    Event,
    EventBatch,
    Malformed,
    Receipt,
    Rejection,
    SnapshotReceipt,
    SnapshotRequest,
    Worker,
    WorkerById,
    WorkerName,
)
from core.rules import fingerprint
from core.rules.event_batch import CheckedEvents, check_events
from core.rules.snapshot import CheckedSnapshot, check_snapshot

Outcome = Receipt | SnapshotReceipt
# What a draft is answered with: an outcome, or the error that is one.
Verdict = Outcome | IngestError | StreamError

# Of memory, about, beside the body and the rows.
MIN_REQUEST_BYTES: Final = 1_024
MIN_ITEM_BYTES: Final = 256
UNKNOWN_WORKER_MESSAGE: Final = "no worker of this organization has this id"
QUOTA_MESSAGE: Final = "the organization's monthly event quota is used up"
_REFUSED: Final = Malformed((), b"")  # stands for a malformed event, whose content is not kept


class PendingRequest(ABC):
    """One request's items, worker names and fate, while its group is written.

    ``slots`` says for each item whose it is, as an index into ``names`` and ``actors``, and into
    ``workers`` once they are resolved. ``positions`` are the items that will be written, as indexes
    into ``slots``; the database's decisions take items away from it and add to ``rejected``. A
    group may be written more than once (a lost connection), so these start afresh with
    :meth:`reset`.
    """

    answer: asyncio.Future[Outcome]

    def __init__(
        self,
        caller: Caller,
        request_id: str,
        received_us: int,
        slots: Sequence[int],
        names: Sequence[WorkerName],
        actors: Sequence[Actor],
        rejected: Sequence[Rejection],
        claim: Claim | None,
        body_bytes: int,
    ) -> None:
        self.caller = caller
        self.request_id = request_id
        self.received_us = received_us
        self.slots = slots
        self.names = names
        self.actors = actors
        self.claim = claim
        # Of the body, for JSON texts are slices of it, and one that is kept keeps all.
        self.size_bytes = MIN_REQUEST_BYTES + MIN_ITEM_BYTES * len(names) + body_bytes
        self.account: Account = account(caller.organization_id, received_us)
        self.streamed = False  # it came in a stream
        self.started = False  # it is being written
        self.lane: UUID | Scope | None = (
            None  # where it waits for a lock (core/journal/lock_waits.py)
        )
        self.give_up_at = 0.0  # by the event loop's time
        self._rejected_before = rejected
        self.reset()

    def reset(self) -> None:
        """Forget what an earlier attempt decided."""
        self.positions: Sequence[int] = range(len(self.slots))
        self.rejected: list[Rejection] = list(self._rejected_before)
        self.workers: Sequence[Worker | None] = ()  # None: not known, or of nothing written
        self.quota_left: int | None = None
        self.replay: Verdict | None = None

    @abstractmethod
    def place(self, position: int) -> tuple[int, str]:
        """The item's index in the request, and its path in messages, empty for a lone item."""

    @abstractmethod
    def receipt(self) -> Outcome:
        """The answer once the items at ``positions``, at least one, are committed."""

    @abstractmethod
    def replay_of(self, stored: StoredReceipt) -> Outcome:
        """The answer that the first request with the same key and content got."""

    def refusal(self) -> IngestError:
        """The answer when no item is to be written."""
        first = min(self.rejected, key=lambda rejection: rejection.index)
        return IngestError(first.code, first.message)

    def outcome(self) -> Verdict:
        """The answer, if the transaction commits."""
        if self.replay is not None:
            return self.replay
        return self.receipt() if self.positions else self.refusal()

    def stored_receipt(self) -> StoredReceipt:
        """What to keep of the answer for equal requests, as far as is known by now."""
        return StoredReceipt(self.request_id, self.received_us, tuple(self.rejected))

    def answer_as(self, digest: bytes, stored: StoredReceipt) -> None:
        """An earlier request holds the key: replay it, or refuse other data under its key."""
        assert self.claim is not None
        self.replay = (
            self.replay_of(stored) if digest == self.claim.digest else idempotency.differs()
        )

    def learn(self, resolved: Mapping[WorkerName, Worker]) -> None:
        """Fill in workers that were not known."""
        self.workers = [
            worker or resolved.get(name)
            for name, worker in zip(self.names, self.workers, strict=True)
        ]

    def refuse_unknown(self) -> None:
        """Reject the items whose worker id is not one of the organization."""
        nobody = {
            slot
            for slot, (name, worker) in enumerate(zip(self.names, self.workers, strict=True))
            if worker is None and isinstance(name, WorkerById)
        }
        if nobody:
            unknown = [position for position in self.positions if self.slots[position] in nobody]
            gone = frozenset(unknown)
            self.positions = [position for position in self.positions if position not in gone]
            self._reject(
                unknown,
                ErrorCode.WORKER_NOT_FOUND,
                UNKNOWN_WORKER_MESSAGE,
                "actor.workerId",
            )

    def grant(self, room: int) -> int:
        """Take what this draft needs of the events that its account has left; returns what remains.

        The items that do not fit, the last ones, are rejected.
        """
        fits = min(len(self.positions), room)
        excess = self.positions[fits:]
        self.positions = self.positions[:fits]
        self._reject(excess, ErrorCode.QUOTA_EXCEEDED, QUOTA_MESSAGE)
        return room - fits

    def _reject(
        self, positions: Sequence[int], code: ErrorCode, reason: str, field: str = ""
    ) -> None:
        if positions:
            for position in positions:
                index, path = self.place(position)
                path = ".".join(filter(None, (path, field)))
                message = f"{path}: {reason}" if path else reason
                self.rejected.append(Rejection(index, code, message))
            self.rejected.sort(key=lambda rejection: rejection.index)


class PendingEvents(PendingRequest):
    """A batch of events."""

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
        self.streamed = batch.streamed
        self.size_bytes += sum(map(len, checked.tails))

    @classmethod
    def check(cls, caller: Caller, batch: EventBatch, received_us: int) -> PendingEvents:
        """Judge the batch by the rules that need no database."""
        checked = check_events(caller, batch.events, received_us, echo=not batch.streamed)
        return cls(caller, batch, received_us, checked)

    def first_id(self) -> UUID:
        """The id of the first event that will be written."""
        return UUID(int=self.checked.first_id.int + self.positions[0])

    def place(self, position: int) -> tuple[int, str]:
        index = self.checked.indexes[position]
        return index, f"events[{index}]"

    def receipt(self) -> Receipt:
        echoes, accepted = self.checked.echoes, len(self.positions)
        if echoes and accepted != len(echoes):
            echoes = [echoes[position] for position in self.positions]
        return Receipt(self.request_id, accepted, echoes, self.rejected, quota_left=self.quota_left)

    def replay_of(self, stored: StoredReceipt) -> Receipt:
        return idempotency.replay_events(stored, self._events)

    def outcome(self) -> Verdict:
        if not self.streamed:
            return super().outcome()
        if isinstance(self.replay, Receipt):
            return structs.replace(self.replay, quota_left=self.quota_left)
        return self.replay or self.receipt()

    def take_place(self, progress: Progress | None) -> bool:
        """Whether the batch is the next of its producer; else ``replay`` says what it is."""
        assert self.position is not None
        try:
            if producers.follows(self.position, progress):
                return True
        except StreamError as error:
            self.replay = error
        else:
            self.replay = Receipt(self.request_id, 0, (), (), duplicate=True)
        return False

    def refusal(self) -> IngestError:
        error = super().refusal()
        error.rejected = self.rejected
        return error


class PendingSnapshot(PendingRequest):
    """One snapshot: a batch of one, without an index."""

    def __init__(
        self,
        caller: Caller,
        request: SnapshotRequest,
        actor: Actor,
        received_us: int,
        checked: CheckedSnapshot,
    ) -> None:
        self.checked = checked
        self._snapshot = request.snapshot
        claim = None
        if request.idempotency_key is not None:
            scope = Scope(
                caller.organization_id, caller.key_id, "snapshots", request.idempotency_key
            )
            claim = Claim(scope, fingerprint.snapshot_digest(request.snapshot))
        super().__init__(
            caller,
            request.request_id,
            received_us,
            [0],
            [checked.worker_name],
            [actor],
            (),
            claim,
            request.size_bytes,
        )

    @classmethod
    def check(cls, caller: Caller, request: SnapshotRequest, received_us: int) -> PendingSnapshot:
        """Judge the snapshot by the rules that need no database; raises the first failure."""
        checked = check_snapshot(caller, request.snapshot, received_us)
        assert request.snapshot.actor is not None
        return cls(caller, request, request.snapshot.actor, received_us, checked)

    def place(self, position: int) -> tuple[int, str]:
        return position, ""

    def stored_receipt(self) -> StoredReceipt:
        worker = self.workers[0] if self.workers else None
        return StoredReceipt(self.request_id, self.received_us, (), worker)

    def receipt(self) -> SnapshotReceipt:
        worker = self.workers[0]
        assert worker is not None
        return SnapshotReceipt(self.request_id, self.checked.snapshot_type, worker, self.quota_left)

    def replay_of(self, stored: StoredReceipt) -> SnapshotReceipt:
        return idempotency.replay_snapshot(stored, self._snapshot)
