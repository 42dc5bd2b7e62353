"""A group: drafts written together in one transaction, each judged as if it were alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from enum import Enum, auto
from typing import NamedTuple
from uuid import UUID

from psycopg.errors import InFailedSqlTransaction

from core import idempotency, ids, producers, quota, rows, snapshots, workers
from core.database import Connection
from core.drafts import Draft, EventsDraft, SnapshotDraft, Verdict
from core.events import Actor, Worker, WorkerName
from core.idempotency import Scope, StoredReceipt
from core.producers import Advance, ProducerKey, Progress
from core.quota import Account
from core.snapshots import SnapshotRow
from core.statements import BEGIN, COMMIT, LOCK_TIMEOUT, Call, Copy, send
from core.workers import WorkerCache


class Approach(Enum):
    """What a group takes for granted before the database has answered.

    ``AT_ONCE``: that everything can be written. The whole transaction is sent in one go, and the
    answers are compared while it waits for the rows: two round trips. If they say otherwise,
    nothing is written, and :class:`UnforeseenError` is raised.

    ``STEP_BY_STEP``: nothing. What is written follows from the answers: three round trips.

    ``LOCKED``: as before, and no other transaction can charge its accounts meanwhile.
    """

    AT_ONCE = auto()
    STEP_BY_STEP = auto()
    LOCKED = auto()


class _Beginning(NamedTuple):
    """What is asked for all drafts."""

    begin: Call
    lock_timeout: Call | None
    claim: Call | None
    lock_producers: Call | None
    lock_accounts: Call | None
    read_quotas: Call | None


class _Ending(NamedTuple):
    """What follows from the drafts' outcomes."""

    store_snapshots: Sequence[Call]
    advance: Call | None
    correct_keys: Call | None
    release_keys: Call | None
    charge: Call | None
    commit: Call

    @property
    def calls(self) -> list[Call | None]:
        """In the order of the locks they take."""
        return [*self.store_snapshots, *self[1:]]


class UnforeseenError(Exception):
    """Not all of a group can be written, so nothing of it was: it has to go step by step."""


class Group:
    """One attempt to write drafts, in their order of arrival.

    Quotas are read at the beginning and charged together with the COMMIT, so that a charge locks
    its account only for a moment. If another transaction has charged the account in between and
    too little is left, :meth:`write` fails with an error that :func:`quota.is_short` recognizes:
    the next attempt is to be ``LOCKED``.

    The ``outcomes`` are true once :meth:`write` has returned; ``resolved`` are the workers to
    cache after that. ``has_claimed``: the idempotency keys are claimed, so a lock that is waited
    for later is not a key's. ``is_whole``: the database has not refused anything.

    If the connection is lost while ``committing``, it is open whether the group was committed.
    ``transaction_id`` tells whether the transaction is still going on. Whether it took effect is
    told by the ``witness``, the organization and id of a row that was written; if none was, by the
    producers that were ``advanced``.
    """

    def __init__(
        self, drafts: Sequence[Draft], cache: WorkerCache, now_us: int, approach: Approach
    ) -> None:
        self._drafts = drafts
        self._cache = cache
        self._now_us = now_us
        self._approach = approach
        self._expected: dict[Scope, StoredReceipt] = {}  # of the keys that are claimed
        self._advancing: list[tuple[ProducerKey, EventsDraft]] = []  # the next of their producers
        self._progress: dict[ProducerKey, Progress] = {}
        self._incomplete: list[Draft] = []  # that have workers that are not known
        self._rows = rows.NONE
        self.outcomes: list[Verdict] = []
        self.resolved: dict[WorkerName, Worker] = {}
        self.transaction_id: str | None = None
        self.witness: tuple[UUID, UUID] | None = None
        self.advanced: dict[ProducerKey, Progress] = {}
        self.has_claimed = False
        self.is_whole = True
        self.committing = False

    async def write(self, db: Connection, lock_seconds: float | None = None) -> None:
        """Find what becomes of each draft, write what is accepted, and commit.

        ``lock_seconds``: how long a lock is waited for, None as in the session. Every process takes
        locks in this order and, within a statement, in sorted order: idempotency keys, producers,
        links, workers, cards, quota accounts. So groups cannot deadlock, but for a ``LOCKED`` one,
        which takes accounts before links: with one that makes the same person, or replaces the
        same card, it may, until the lock of either has been waited for too long.

        Raises :class:`InFailedSqlTransaction` if the server rolled back instead.
        """
        for draft in self._drafts:
            draft.reset()
        self._recall_workers()
        beginning = self._beginning(lock_seconds)
        # Begun in the same round trip, unless workers have to be asked for before.
        has_events = any(isinstance(draft, EventsDraft) for draft in self._drafts)
        copy = Copy(rows.COPY_EVENTS) if has_events and not self._incomplete else None
        try:
            if copy is not None and self._approach is Approach.AT_ONCE:
                await self._write_at_once(db, beginning, copy)
            else:
                await self._write_step_by_step(db, beginning, copy)
        finally:
            self.has_claimed = beginning.claim is None or beginning.claim.done

    async def _write_at_once(self, db: Connection, beginning: _Beginning, copy: Copy) -> None:
        ending = self._ending()
        # The rows are packed while the database is at the beginning.
        await send(db, [*beginning, copy, *ending.calls], meanwhile=self._pack_rows)
        self._has_all_keys(beginning.claim)
        self._take_places(beginning.lock_producers)
        self._divide(beginning.read_quotas)
        if not self.is_whole:
            await copy.abandon(db, "not all of its group can be written")
            raise UnforeseenError
        self._foretell()
        await copy.write(db, self._rows)
        self._check(ending)

    async def _write_step_by_step(
        self, db: Connection, beginning: _Beginning, copy: Copy | None
    ) -> None:
        await send(db, [*beginning, copy])
        if not self._has_all_keys(beginning.claim):
            if copy is not None:
                await copy.write(db, rows.NONE)  # to end it
                copy = None
            await self._answer_held(db)
        self._take_places(beginning.lock_producers)
        await self._find_workers(db)
        self._divide(beginning.read_quotas)
        await self._provide_workers(db)
        self._pack_rows()
        if copy is None and self._rows != rows.NONE:
            copy = Copy(rows.COPY_EVENTS)
            await send(db, [copy])
        if copy is not None:
            await copy.write(db, self._rows)
        ending = self._ending()
        self._foretell()
        await send(db, ending.calls)
        self._check(ending)

    def _beginning(self, lock_seconds: float | None) -> _Beginning:
        # Also of a draft that can write nothing, so that it waits for a first request that is in
        # flight on another replica; its claim is given back.
        claims = [
            (draft.claim, draft.stored_receipt())
            for draft in self._drafts
            if draft.claim is not None
        ]
        self._expected = {wish.scope: receipt for wish, receipt in claims}
        self._advancing = [
            (producers.key(draft.caller, draft.position.producer_id), draft)
            for draft in self._drafts
            if isinstance(draft, EventsDraft) and draft.position is not None
        ]
        # A stream is told what is left even if it writes nothing.
        accounts = {draft.account for draft in self._drafts if draft.positions or draft.streamed}
        return _Beginning(
            Call(BEGIN),
            None if lock_seconds is None else Call(LOCK_TIMEOUT, f"{lock_seconds * 1_000:.0f}ms"),
            idempotency.claim(claims),
            producers.lock([producer for producer, _ in self._advancing]),
            quota.lock(accounts) if self._approach is Approach.LOCKED else None,
            quota.read(accounts),
        )

    def _ending(self) -> _Ending:
        """What is to be written beside the events, if all that is not decided yet is accepted."""
        charged: defaultdict[Account, int] = defaultdict(int)
        for draft in self._live():
            charged[draft.account] += len(draft.positions)
        corrected, unused = self._keys_to_settle()
        return _Ending(
            snapshots.store(self._arrived()),
            producers.advance(self._advances()),
            idempotency.store(corrected),
            idempotency.release(unused),
            quota.charge({account: events for account, events in charged.items() if events}),
            Call(COMMIT),
        )

    def _foretell(self) -> None:
        """Before the COMMIT is sent: if this raised after it, all would be written again."""
        self.outcomes = [draft.outcome() for draft in self._drafts]
        self.advanced = {
            producer: self._progress[producer].after(added)
            for producer, added in self._advances().items()
        }
        self.committing = True

    def _check(self, ending: _Ending) -> None:
        """See that it was committed, and tell what the charge left: others may have charged too."""
        if ending.commit.tag != COMMIT:
            raise InFailedSqlTransaction(f"COMMIT was answered with {ending.commit.tag}")
        left = quota.left(ending.charge)
        for position, draft in enumerate(self._drafts):
            its_left = left.get(draft.account, draft.quota_left)
            if its_left != draft.quota_left:
                draft.quota_left = its_left
                self.outcomes[position] = draft.outcome()

    def _has_all_keys(self, claim: Call | None) -> bool:
        """Whether none of the idempotency keys is held by others."""
        has_all = claim is None or claim.count == len(self._expected)
        self.is_whole &= has_all
        return has_all

    def _live(self) -> list[Draft]:
        """The drafts that are not replayed."""
        return [draft for draft in self._drafts if draft.replay is None]

    async def _answer_held(self, db: Connection) -> None:
        """Answer the drafts whose keys others hold."""
        held = await idempotency.held(db, list(self._expected))
        for draft in self._drafts:
            if draft.claim is not None and draft.claim.scope in held:
                draft.answer_as(*held[draft.claim.scope])
                del self._expected[draft.claim.scope]

    def _take_places(self, lock_producers: Call | None) -> None:
        """Find which batches are their producers' next ones; the others are not written."""
        self._progress = producers.locked(lock_producers)
        ahead = dict(self._progress)  # what is accepted of each is not known yet
        next_ones: list[tuple[ProducerKey, EventsDraft]] = []
        for producer, draft in self._advancing:
            current = ahead.get(producer)
            if draft.take_place(current):
                assert current is not None
                ahead[producer] = current.after(Advance(1, 0, 0))
                next_ones.append((producer, draft))
        self.is_whole &= len(next_ones) == len(self._advancing)
        self._advancing = next_ones

    def _advances(self) -> dict[ProducerKey, Advance]:
        """What its batches in this group add to each producer."""
        added: dict[ProducerKey, Advance] = {}
        for producer, draft in self._advancing:
            batches, accepted, rejected = added.get(producer, (0, 0, 0))
            added[producer] = Advance(
                batches + 1, accepted + len(draft.positions), rejected + len(draft.rejected)
            )
        return added

    def _recall_workers(self) -> None:
        """Fill in the workers that are known without asking."""
        for draft in self._drafts:
            draft.workers = list(map(self._cache.get, draft.names))
            if not all(draft.workers):
                self._incomplete.append(draft)

    async def _find_workers(self, db: Connection) -> None:
        """Ask for the other workers; reject the items of those that do not exist."""
        self._incomplete = [draft for draft in self._incomplete if draft.replay is None]
        missing: dict[WorkerName, Actor] = {}
        for draft in self._incomplete:
            for name, actor, worker in zip(draft.names, draft.actors, draft.workers, strict=True):
                if worker is None:
                    missing.setdefault(name, actor)
        self.resolved = await workers.find(db, missing)
        for draft in self._incomplete:
            draft.learn(self.resolved)
            draft.refuse_unknown()

    def _divide(self, read_quotas: Call | None) -> None:
        """Give the drafts what their accounts have left, first come, first served."""
        self.transaction_id = quota.transaction_id(read_quotas)
        room = quota.left(read_quotas)
        for draft in self._live():
            wanted = len(draft.positions)
            if not wanted:
                continue
            its_room = room.setdefault(draft.account, 0)  # none if the organization was removed
            if its_room is not None:
                room[draft.account] = draft.grant(its_room)
                self.is_whole &= len(draft.positions) == wanted
        for draft in self._drafts:
            draft.quota_left = room.get(draft.account)

    async def _provide_workers(self, db: Connection) -> None:
        """Make workers that do not exist yet, but none for items that are rejected."""
        needed: dict[WorkerName, Actor] = {}
        for draft in self._incomplete:
            for slot in dict.fromkeys(map(draft.slots.__getitem__, draft.positions)):
                if draft.workers[slot] is None:
                    needed.setdefault(draft.names[slot], draft.actors[slot])
        self.resolved |= await workers.provide(db, needed, self._now_us)
        for draft in self._incomplete:
            draft.learn(self.resolved)

    def _pack_rows(self) -> None:
        pieces: list[bytes] = []
        for draft in self._live():
            if not (isinstance(draft, EventsDraft) and draft.positions):
                continue
            organization_id, app_id = draft.caller.organization_id, draft.caller.app_id
            slots, tails = draft.slots, draft.checked.tails
            if len(draft.positions) < len(slots):
                slots = [slots[position] for position in draft.positions]
                tails = [tails[position] for position in draft.positions]
            pieces += rows.assemble(organization_id, app_id, draft.workers, slots, tails)
            self.witness = (organization_id, draft.first_id())
        self._rows = rows.table(pieces)

    def _arrived(self) -> list[SnapshotRow]:
        arrived: list[SnapshotRow] = []
        for draft in self._live():
            if isinstance(draft, SnapshotDraft) and draft.positions:
                organization_id, app_id = draft.caller.organization_id, draft.caller.app_id
                its_id, worker = ids.new(draft.received_us), draft.workers[0]
                assert worker is not None
                arrived.append(
                    SnapshotRow(organization_id, app_id, its_id, worker.id, draft.checked)
                )
                self.witness = (organization_id, its_id)
        return arrived

    def _keys_to_settle(self) -> tuple[list[tuple[Scope, StoredReceipt]], list[Scope]]:
        """Claims whose receipt is not the expected one, and claims of which nothing is written."""
        corrected: list[tuple[Scope, StoredReceipt]] = []
        unused: list[Scope] = []
        for draft in self._drafts:
            if draft.claim is None or draft.claim.scope not in self._expected:
                continue
            scope = draft.claim.scope
            if not draft.positions:
                unused.append(scope)
            elif (receipt := draft.stored_receipt()) != self._expected[scope]:
                corrected.append((scope, receipt))
        return corrected, unused
