"""A group: drafts written together in one transaction, each judged as if it were alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from enum import Enum, auto
from uuid import UUID

from psycopg.errors import InFailedSqlTransaction

from core import ids
from core.journal import quota, snapshots, workers
from core.journal.claims import Claims
from core.journal.pending import PendingEvents, PendingRequest, PendingSnapshot, Verdict
from core.journal.places import Places
from core.journal.producers import ProducerKey, Progress
from core.journal.quota import Account
from core.journal.snapshots import SnapshotRow
from core.journal.workers import WorkerCache
from core.models import Actor, Worker, WorkerName
from core.postgres import copy_rows
from core.postgres.pipeline import BEGIN, COMMIT, LOCK_TIMEOUT, Command, CopyCommand, send
from core.postgres.sessions import Connection


class Mode(Enum):
    """What a group takes for granted before the database has answered.

    ``OPTIMISTIC``: that everything can be written. The whole transaction is sent in one go, and the
    answers are looked at while it waits for the rows: two round trips. If they say otherwise,
    nothing is written, and :class:`UnforeseenError` is raised. A group that has no events, or
    workers that have to be asked for, goes step by step all the same.

    ``STEPWISE``: nothing. What is written follows from the answers: three round trips, and
    more for keys that others hold and for workers that have to be asked for.

    ``LOCKED``: as ``STEPWISE``, and no other transaction can charge its accounts meanwhile.
    """

    OPTIMISTIC = auto()
    STEPWISE = auto()
    LOCKED = auto()


class UnforeseenError(Exception):
    """Not all of a group can be written, so nothing of it was: it has to go step by step."""


class Transaction:
    """One attempt to write drafts, in their order of arrival.

    Quotas are read at the beginning and charged together with the COMMIT, so that a charge locks
    its account only for a moment. If another transaction has charged the account in between and
    too little is left, :meth:`write` fails with an error that :func:`quota.is_short` recognizes:
    the next attempt is to be ``LOCKED``.

    The ``outcomes`` are true once :meth:`write` has returned; ``resolved`` are the workers to
    cache after that. ``has_claimed``: the idempotency keys are claimed, so a lock that is waited
    for later is not a key's. ``is_whole``: all that ``OPTIMISTIC`` takes for granted is true.

    If the connection is lost while ``committing``, it is open whether the group was committed.
    ``transaction_id`` tells whether the transaction is still going on. Whether it took effect is
    told by the ``witness``, the organization and id of a row that was written; if none was, by the
    producers that were ``advanced``.
    """

    def __init__(
        self, drafts: Sequence[PendingRequest], cache: WorkerCache, now_us: int, approach: Mode
    ) -> None:
        self._drafts = drafts
        self._cache = cache
        self._now_us = now_us
        self._approach = approach
        for draft in drafts:
            draft.reset()
        self._incomplete: list[PendingRequest] = []  # that have workers that are not known
        self._recall_workers()
        self._claims = Claims(drafts)
        self._places = Places(drafts)
        # A stream is told what is left even if it writes nothing.
        self._accounts = {draft.account for draft in drafts if draft.positions or draft.streamed}
        self._read_quotas = quota.read(self._accounts)
        self._commit = Command(COMMIT)
        self._charge: Command | None = None
        self._rows = copy_rows.NONE
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

        Raises :class:`UnforeseenError` (:class:`Mode`), and :class:`InFailedSqlTransaction` if
        the server rolled back instead.
        """
        # Begun in the first round trip, unless workers have to be asked for before.
        has_events = any(isinstance(draft, PendingEvents) for draft in self._drafts)
        copy = CopyCommand(copy_rows.COPY_EVENTS) if has_events and not self._incomplete else None
        try:
            if copy is not None and self._approach is Mode.OPTIMISTIC:
                await self._write_at_once(db, lock_seconds, copy)
            else:
                await self._write_step_by_step(db, lock_seconds, copy)
        finally:
            self.has_claimed = self._claims.are_answered
        self._check()

    async def _write_at_once(
        self, db: Connection, lock_seconds: float | None, copy: CopyCommand
    ) -> None:
        calls = [*self._first(lock_seconds), copy, *self._last()]
        # The rows are packed while the database is at what comes before them.
        await send(db, calls, meanwhile=self._pack_rows)
        self.is_whole = self._claims.are_won and self._places.take() and self._divide()
        if not self.is_whole:
            await copy.abandon(db, "its group will be written step by step")
            raise UnforeseenError
        self._foretell()
        await copy.write(db, self._rows)

    async def _write_step_by_step(
        self, db: Connection, lock_seconds: float | None, copy: CopyCommand | None
    ) -> None:
        await send(db, [*self._first(lock_seconds), copy])
        have_won = self._claims.are_won
        if not have_won:
            if copy is not None:
                await copy.write(db, copy_rows.NONE)  # to end it
                copy = None
            await self._claims.answer_others(db)
        are_next = self._places.take()
        await self._find_workers(db)
        all_fit = self._divide()
        self.is_whole = have_won and are_next and all_fit
        await self._provide_workers(db)
        self._pack_rows()
        if copy is None and self._rows != copy_rows.NONE:
            copy = CopyCommand(copy_rows.COPY_EVENTS)
            await send(db, [copy])
        if copy is not None:
            await copy.write(db, self._rows)
        self._foretell()
        await send(db, self._last())

    def _first(self, lock_seconds: float | None) -> list[Command | None]:
        """What is asked and locked for all drafts."""
        return [
            Command(BEGIN),
            None
            if lock_seconds is None
            else Command(LOCK_TIMEOUT, f"{lock_seconds * 1_000:.0f}ms"),
            self._claims.claim,
            self._places.lock,
            quota.lock(self._accounts) if self._approach is Mode.LOCKED else None,
            self._read_quotas,
        ]

    def _last(self) -> list[Command | None]:
        """What follows from the drafts' outcomes, beside the events."""
        charged: defaultdict[Account, int] = defaultdict(int)
        for draft in self._live():
            if draft.positions:
                charged[draft.account] += len(draft.positions)
        self._charge = quota.charge(charged)
        return [
            *snapshots.store(self._arrived()),
            self._places.advance(),
            *self._claims.settle(),
            self._charge,
            self._commit,
        ]

    def _foretell(self) -> None:
        """Before the COMMIT can run: if this raised after it, all would be written again."""
        self.outcomes = [draft.outcome() for draft in self._drafts]
        self.advanced = self._places.reached()
        self.committing = True

    def _check(self) -> None:
        """See that it is committed, and tell what the charge left: others may have charged too."""
        if self._commit.tag != COMMIT:
            raise InFailedSqlTransaction(f"COMMIT was answered with {self._commit.tag}")
        left = quota.left(self._charge)
        for position, draft in enumerate(self._drafts):
            its_left = left.get(draft.account, draft.quota_left)
            if its_left != draft.quota_left:
                draft.quota_left = its_left
                self.outcomes[position] = draft.outcome()

    def _live(self) -> list[PendingRequest]:
        """The drafts that are not replayed."""
        return [draft for draft in self._drafts if draft.replay is None]

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

    def _divide(self) -> bool:
        """Give the drafts what their accounts have left, first come, first served.

        Returns whether all got what they need.
        """
        self.transaction_id = quota.transaction_id(self._read_quotas)
        room = quota.left(self._read_quotas)
        suffices = True
        for draft in self._live():
            needed = len(draft.positions)
            if not needed:
                continue
            its_room = room.setdefault(draft.account, 0)  # none if the organization was removed
            if its_room is not None:
                room[draft.account] = draft.grant(its_room)
                suffices &= len(draft.positions) == needed
        for draft in self._drafts:
            draft.quota_left = room.get(draft.account)
        return suffices

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
            if not (isinstance(draft, PendingEvents) and draft.positions):
                continue
            organization_id, app_id = draft.caller.organization_id, draft.caller.app_id
            first_id = draft.checked.first_id
            slots, tails = draft.slots, draft.checked.tails
            if len(draft.positions) < len(slots):
                slots = [slots[position] for position in draft.positions]
                tails = [tails[position] for position in draft.positions]
            pieces += copy_rows.assemble(
                organization_id, app_id, first_id, draft.workers, slots, tails
            )
            self.witness = (organization_id, draft.first_id())
        self._rows = copy_rows.table(pieces)

    def _arrived(self) -> list[SnapshotRow]:
        arrived: list[SnapshotRow] = []
        for draft in self._live():
            if isinstance(draft, PendingSnapshot) and draft.positions:
                organization_id, app_id = draft.caller.organization_id, draft.caller.app_id
                its_id, worker = ids.new(draft.received_us), draft.workers[0]
                assert worker is not None
                arrived.append(
                    SnapshotRow(organization_id, app_id, its_id, worker.id, draft.checked)
                )
                self.witness = (organization_id, its_id)
        return arrived
