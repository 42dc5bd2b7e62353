"""Pending requests: requests on their way to the disk, and the outcome of each item."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Final
from uuid import UUID

from core.error_codes import ErrorCode
from core.errors import IngestError, StreamError
from core.journal import stored_receipt
from core.journal.quota import Account, account
from core.journal.stored_receipt import Claim, Scope, StoredReceipt
from core.models import (
    Actor,
    Caller,
    Receipt,
    Rejection,
    SnapshotReceipt,
    Worker,
    WorkerById,
    WorkerName,
)
from core.tracing import Span

Outcome = Receipt | SnapshotReceipt
# The answer to a request: an outcome, or the error in its place.
Verdict = Outcome | IngestError | StreamError

UNKNOWN_WORKER_MESSAGE: Final = "no worker of this organization has this id"
QUOTA_MESSAGE: Final = "the organization's monthly event quota is used up"


class PendingRequest(ABC):
    """The items of one request until its transaction is committed.

    ``items``: how many the request has. All that follows is empty until it ``is_judged`` by the
    rules that need no database.

    ``actor_indexes`` has one entry an item: the index of the item's actor in ``names`` and
    ``actors``, and in ``workers`` once these are resolved. ``accepted`` are the items that will be
    written, as indexes into ``actor_indexes``. Decisions of the database move items from
    ``accepted`` to ``rejected``. A transaction may be tried more than once, after a lost
    connection, and each attempt begins with :meth:`reset`.

    ``answer`` is the future that :meth:`Journal.enqueue` returns, and ``notes`` is called with it
    once it is done. ``span``: the request's, if traces are on.
    """

    answer: asyncio.Future[Outcome]
    notes: Callable[[asyncio.Future[Outcome]], None] | None = None
    span: Span | None = None
    is_judged = False
    actor_indexes: Sequence[int] = ()
    names: Sequence[WorkerName] = ()
    actors: Sequence[Actor] = ()
    _rejected_before: Sequence[Rejection] = ()

    def __init__(
        self,
        caller: Caller,
        request_id: str,
        received_us: int,
        items: int,
        claim: Claim | None,
    ) -> None:
        self.caller = caller
        self.request_id = request_id
        self.received_us = received_us
        self.items = items
        self.claim = claim
        self.account: Account = account(caller.organization_id, received_us)
        self.is_streamed = False
        self.is_being_written = False
        self.was_set_aside = False  # in a lock wait that is over
        self.lock_wait: UUID | Scope | None = None  # of core/journal/lock_waits.py, if it is in one
        self.give_up_at = 0.0  # seconds, by the event loop's time

    def note_judged(
        self,
        actor_indexes: Sequence[int],
        names: Sequence[WorkerName],
        actors: Sequence[Actor],
        rejected: Sequence[Rejection],
    ) -> None:
        """Take what became of the items by the rules that need no database."""
        self.actor_indexes = actor_indexes
        self.names = names
        self.actors = actors
        self._rejected_before = rejected
        self.is_judged = True
        self.reset()

    @property
    def unjudged_bytes(self) -> int:
        """The size of what is yet to be judged."""
        return 0

    @property
    def is_refused(self) -> bool:
        """Whether nothing is to be written, no key to be looked up and no stream to go on."""
        return self.is_judged and not (self.actor_indexes or self.claim or self.is_streamed)

    def reset(self) -> None:
        """Forget the decisions of an earlier attempt."""
        self.accepted: Sequence[int] = range(len(self.actor_indexes))
        self.rejected: list[Rejection] = list(self._rejected_before)
        self.workers: Sequence[Worker | None] = ()  # None: not known, or of no accepted item
        self.quota_left: int | None = None
        self.replay: Verdict | None = None

    @abstractmethod
    def item_path(self, position: int) -> tuple[int, str]:
        """The item's index in the request, and its path in messages, empty for a lone item."""

    @abstractmethod
    def receipt(self) -> Outcome:
        """The answer once the ``accepted`` items, at least one, are committed."""

    @abstractmethod
    def replay_of(self, stored: StoredReceipt) -> Outcome:
        """The answer to the first request with the same key and content."""

    def refusal(self) -> IngestError:
        """The answer when no item is to be written."""
        first = min(self.rejected, key=lambda rejection: rejection.index)
        return IngestError(first.code, first.message)

    def outcome(self) -> Verdict:
        """The answer, if the transaction commits."""
        if self.replay is not None:
            return self.replay
        return self.receipt() if self.accepted else self.refusal()

    def stored_receipt(self) -> StoredReceipt:
        """The receipt to keep for equal requests, as far as it is known by now."""
        return StoredReceipt(self.request_id, self.received_us, tuple(self.rejected))

    def answer_from(self, fingerprint: bytes, stored: StoredReceipt) -> None:
        """Replay the earlier request that holds the key, or refuse other data under its key."""
        assert self.claim is not None
        if fingerprint == self.claim.fingerprint:
            self.replay = self.replay_of(stored)
        else:
            self.replay = stored_receipt.other_body()

    def recall(self, get: Callable[[WorkerName], Worker | None]) -> bool:
        """Fill in the workers that are known without asking; returns whether these are all."""
        self.workers = list(map(get, self.names))
        return all(self.workers)

    def learn(self, resolved: Mapping[WorkerName, Worker]) -> None:
        """Fill in workers that were not known."""
        self.workers = [
            worker or resolved.get(name)
            for name, worker in zip(self.names, self.workers, strict=True)
        ]

    def reject_unknown_workers(self) -> None:
        """Reject the items whose worker id is not one of the organization."""
        unknown_actors = {
            index
            for index, (name, worker) in enumerate(zip(self.names, self.workers, strict=True))
            if worker is None and isinstance(name, WorkerById)
        }
        if unknown_actors:
            rejected = [
                position
                for position in self.accepted
                if self.actor_indexes[position] in unknown_actors
            ]
            gone = frozenset(rejected)
            self.accepted = [position for position in self.accepted if position not in gone]
            self._reject(
                rejected, ErrorCode.WORKER_NOT_FOUND, UNKNOWN_WORKER_MESSAGE, "actor.workerId"
            )

    def charge(self, left: int) -> int:
        """Use up to ``left`` events of the account; returns the number that is left then.

        The last items, for which nothing is left, are rejected.
        """
        fits = min(len(self.accepted), left)
        excess = self.accepted[fits:]
        self.accepted = self.accepted[:fits]
        self._reject(excess, ErrorCode.QUOTA_EXCEEDED, QUOTA_MESSAGE)
        return left - fits

    def _reject(
        self, positions: Sequence[int], code: ErrorCode, reason: str, field: str = ""
    ) -> None:
        if positions:
            for position in positions:
                index, path = self.item_path(position)
                path = ".".join(filter(None, (path, field)))
                message = f"{path}: {reason}" if path else reason
                self.rejected.append(Rejection(index, code, message))
            self.rejected.sort(key=lambda rejection: rejection.index)
