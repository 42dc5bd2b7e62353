"""A transaction of requests: written together, each judged as if it were alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from uuid import UUID

from psycopg.errors import InFailedSqlTransaction

from core import ids
from core.journal import quota, snapshots, workers
from core.journal.commit_lock import CommitLock
from core.journal.idempotency import IdempotencyStep
from core.journal.mode import Mode, UnexpectedOutcomeError
from core.journal.pending import PendingRequest, Verdict
from core.journal.pending_events import PendingEvents
from core.journal.pending_snapshot import PendingSnapshot
from core.journal.producers import ProducerKey, ProducerStep, Progress
from core.journal.quota import Account
from core.journal.snapshots import SnapshotRow
from core.journal.worker_changes import RecalledWorkers, WorkersChangedError
from core.journal.workers import WorkerCache
from core.models import Actor, Worker, WorkerName
from core.postgres import copy_rows, partitions
from core.postgres.pipeline import BEGIN, COMMIT, LOCK_TIMEOUT, Command, CopyCommand, send
from core.postgres.sessions import Connection
from core.tracing import UNTRACED


class Transaction:
    """One attempt to write requests, in their order of arrival.

    Every process takes locks in one order: idempotency keys, producers, workers' changes (shared),
    links, workers, cards, quota accounts. Within a statement, rows are locked in sorted order. So
    transactions cannot deadlock, with one exception: a ``LOCKED`` transaction takes its accounts
    before links, workers and cards. It can deadlock with one that makes the same worker or replaces
    the same card and charges the same account. One of the two then fails, by its lock timeout or as
    PostgreSQL's choice, writes nothing, and is tried again.

    Quotas are read at the beginning and charged together with the COMMIT, so that a charge locks
    its account only for a moment. If another transaction has charged the account in between and too
    little is left, :meth:`write` fails and the transaction ``is_short``. The next attempt has to be
    ``LOCKED``. It ``lacks_partition`` if there is none for one of the events.

    ``outcomes`` are true once :meth:`write` has returned, and ``resolved`` are the workers to cache
    then, as of the changes that ``recalled`` has read. ``has_keys``: the idempotency keys are
    claimed, so a lock that is waited for later is not a key's. ``is_as_expected``: every assumption
    of ``OPTIMISTIC`` was true.

    If the connection is lost while ``committing``, the commit status is open
    (core/journal/commit_status.py). ``commit_lock`` tells whether the transaction is still going
    on; without one it had nothing to write. ``probe_row``, the organization and id of a row it
    writes, tells whether it took effect; without a row, the producers that it ``advanced`` do.
    """

    def __init__(
        self, requests: Sequence[PendingRequest], cache: WorkerCache, now_us: int, mode: Mode
    ) -> None:
        self._requests = requests
        self._now_us = now_us
        self._mode = mode
        for request in requests:
            request.reset()
        # Some of their workers are not cached.
        self._incomplete = [request for request in requests if not request.recall(cache.get)]
        self._idempotency = IdempotencyStep(requests)
        self._producer_step = ProducerStep(requests)
        # A stream is told what is left even if it writes nothing.
        asking = [request for request in requests if request.accepted or request.is_streamed]
        self._accounts = {request.account for request in asking}
        organization_ids = {account.organization_id for account in self._accounts}
        self.recalled = RecalledWorkers(cache, organization_ids)
        self.commit_lock = CommitLock.of(organization_ids) if organization_ids else None
        self._read_quotas = self.commit_lock and quota.read(self._accounts, self.commit_lock)
        self._commit = Command(COMMIT)
        self._charge: Command | None = None
        self._copy: CopyCommand | None = None
        self._rows = copy_rows.NO_ROWS
        self.outcomes: list[Verdict] = []
        self.resolved: dict[WorkerName, Worker] = {}
        self.probe_row: tuple[UUID, UUID] | None = None
        self.advanced: dict[ProducerKey, Progress] = {}
        self.has_keys = False
        self.is_as_expected = True
        self.committing = False
        self.step = UNTRACED

    @property
    def is_short(self) -> bool:
        """Whether others have charged an account meanwhile, and too little is left."""
        return quota.is_short(self._charge)

    @property
    def lacks_partition(self) -> bool:
        """Whether there is no partition for an event."""
        return self._copy is not None and partitions.is_missing(self._copy.error)

    async def write(self, db: Connection, lock_seconds: float | None = None) -> None:
        """Find the outcome of each request, write the accepted items, and commit.

        ``lock_seconds``: the longest wait for a lock, None as in the session.

        Raises :class:`UnexpectedOutcomeError` (:class:`Mode`), :class:`WorkersChangedError`, and
        :class:`InFailedSqlTransaction` if the server rolled back instead.
        """
        # The COPY begins in the first round trip, unless workers have to be asked for before.
        has_events = any(isinstance(request, PendingEvents) for request in self._requests)
        copy = CopyCommand(copy_rows.COPY_EVENTS) if has_events and not self._incomplete else None
        self._copy = copy
        try:
            if copy is not None and self._mode is Mode.OPTIMISTIC:
                await self._write_optimistic(db, lock_seconds, copy)
            else:
                await self._write_stepwise(db, lock_seconds, copy)
        finally:
            self.has_keys = self._idempotency.is_answered
        self._check()

    async def _write_optimistic(
        self, db: Connection, lock_seconds: float | None, copy: CopyCommand
    ) -> None:
        commands = [*self._first(lock_seconds), copy, *self._last()]
        # The rows are packed while the database is at what comes before them.
        await self.step("claim", send(db, commands, meanwhile=self._pack_rows))
        await self._check_workers(db, copy)
        self.is_as_expected = (
            self._idempotency.has_all and self._producer_step.check() and self._apply_quotas()
        )
        if not self.is_as_expected:
            await copy.abandon(db, "its transaction will be written stepwise")
            raise UnexpectedOutcomeError
        self._expect_outcomes()
        await self.step("copy and commit", copy.write(db, self._rows))

    async def _write_stepwise(
        self, db: Connection, lock_seconds: float | None, copy: CopyCommand | None
    ) -> None:
        await self.step("claim", send(db, [*self._first(lock_seconds), copy]))
        await self._check_workers(db, copy)
        has_all_keys = self._idempotency.has_all
        if not has_all_keys:
            if copy is not None:
                await copy.write(db, copy_rows.NO_ROWS)  # to end it
                copy = None
            await self.step("claim held keys", self._idempotency.answer_others(db))
        in_sequence = self._producer_step.check()
        await self.step("find workers", self._find_workers(db))
        all_fit = self._apply_quotas()
        self.is_as_expected = has_all_keys and in_sequence and all_fit
        await self.step("provide workers", self._provide_workers(db))
        self._pack_rows()
        if copy is None and self._rows != copy_rows.NO_ROWS:
            copy = self._copy = CopyCommand(copy_rows.COPY_EVENTS)
            await send(db, [copy])
        if copy is not None:
            await self.step("copy", copy.write(db, self._rows))
        self._expect_outcomes()
        await self.step("commit", send(db, self._last()))

    def _first(self, lock_seconds: float | None) -> list[Command | None]:
        """The commands that ask and lock, for all requests."""
        return [
            Command(BEGIN),
            None
            if lock_seconds is None
            else Command(LOCK_TIMEOUT, f"{lock_seconds * 1_000 + 1:.0f}ms"),  # 0 has no end
            self._idempotency.command,
            self._producer_step.command,
            self.recalled.lock,
            quota.lock(self._accounts) if self._mode is Mode.LOCKED else None,
            self._read_quotas,
        ]

    async def _check_workers(self, db: Connection, copy: CopyCommand | None) -> None:
        """Give up if the workers that were recalled are not those of now."""
        if not self.recalled.are_current(quota.worker_changes(self._read_quotas), self._requests):
            if copy is not None:
                await copy.abandon(db, "workers were changed meanwhile")
            raise WorkersChangedError

    def _last(self) -> list[Command | None]:
        """The commands that follow from the outcomes, beside the COPY."""
        charged: defaultdict[Account, int] = defaultdict(int)
        for request in self._live():
            if request.accepted:
                charged[request.account] += len(request.accepted)
        charge = quota.charge(charged)
        self._charge = charge[-1] if charge else None
        return [
            *snapshots.store(self._arrived()),
            self._producer_step.advance(),
            *self._idempotency.finish(),
            *charge,
            self._commit,
        ]

    def _expect_outcomes(self) -> None:
        """Note the outcomes that the COMMIT makes true.

        Before the COMMIT can run: an error after it would have everything written again.
        """
        self.outcomes = [request.outcome() for request in self._requests]
        self.advanced = self._producer_step.reached()
        self.committing = True

    def _check(self) -> None:
        """See that it is committed, and correct the quotas left: others may have charged too."""
        if self._commit.tag != COMMIT:
            raise InFailedSqlTransaction(f"COMMIT was answered with {self._commit.tag}")
        left = quota.left(self._charge)
        for position, request in enumerate(self._requests):
            left_now = left.get(request.account, request.quota_left)
            if left_now != request.quota_left:
                request.quota_left = left_now
                self.outcomes[position] = request.outcome()

    def _live(self) -> list[PendingRequest]:
        """The requests that are not replayed."""
        return [request for request in self._requests if request.replay is None]

    async def _find_workers(self, db: Connection) -> None:
        """Ask for the other workers; reject the items of those that do not exist."""
        self._incomplete = [request for request in self._incomplete if request.replay is None]
        missing: dict[WorkerName, Actor] = {}
        for request in self._incomplete:
            for name, actor, worker in zip(
                request.names, request.actors, request.workers, strict=True
            ):
                if worker is None:
                    missing.setdefault(name, actor)
        self.resolved = await workers.find(db, missing)
        for request in self._incomplete:
            request.learn(self.resolved)
            request.reject_unknown_workers()

    def _apply_quotas(self) -> bool:
        """Charge the requests to what their accounts have left, first come, first served.

        Returns whether every account sufficed.
        """
        left = quota.left(self._read_quotas)
        suffices = True
        for request in self._live():
            needed = len(request.accepted)
            if not needed:
                continue
            available = left.setdefault(request.account, 0)  # 0 if the organization was removed
            if available is not None:
                left[request.account] = request.charge(available)
                suffices &= len(request.accepted) == needed
        for request in self._requests:
            request.quota_left = left.get(request.account)
        return suffices

    async def _provide_workers(self, db: Connection) -> None:
        """Make workers that do not exist yet, but none for items that are rejected."""
        needed: dict[WorkerName, Actor] = {}
        for request in self._incomplete:
            for actor_index in dict.fromkeys(
                map(request.actor_indexes.__getitem__, request.accepted)
            ):
                if request.workers[actor_index] is None:
                    needed.setdefault(request.names[actor_index], request.actors[actor_index])
        self.resolved |= await workers.provide(db, needed, self._now_us)
        for request in self._incomplete:
            request.learn(self.resolved)

    def _pack_rows(self) -> None:
        pieces: list[bytes] = []
        written = [
            request
            for request in self._live()
            if isinstance(request, PendingEvents) and request.accepted
        ]
        for request in written:
            organization_id, app_id = request.caller.organization_id, request.caller.app_id
            first_id = request.checked.first_id
            actor_indexes, tails = request.actor_indexes, request.checked.tails
            if len(request.accepted) < len(actor_indexes):
                actor_indexes = [actor_indexes[position] for position in request.accepted]
                tails = [tails[position] for position in request.accepted]
            pieces += copy_rows.assemble(
                organization_id, app_id, first_id, request.workers, actor_indexes, tails
            )
        if written:
            self.probe_row = (written[-1].caller.organization_id, written[-1].first_id())
        self._rows = copy_rows.table(pieces)

    def _arrived(self) -> list[SnapshotRow]:
        arrived: list[SnapshotRow] = []
        for request in self._live():
            if isinstance(request, PendingSnapshot) and request.accepted:
                owner, its_id = request.caller, ids.new(request.received_us)
                worker = request.workers[0]
                assert worker is not None
                row = (owner.organization_id, owner.app_id, its_id, worker.id, request.received_us)
                arrived.append(SnapshotRow(*row, request.checked))
                self.probe_row = (owner.organization_id, its_id)
        return arrived
