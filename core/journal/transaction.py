"""A transaction of requests: written together, each judged as if it were alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from psycopg.errors import DivisionByZero, InFailedSqlTransaction

from core.journal import quota, rows, snapshots
from core.journal.commit_lock import CommitLock
from core.journal.idempotency import IdempotencyStep
from core.journal.mode import Mode, UnexpectedOutcomeError
from core.journal.pending import PendingRequest, Verdict
from core.journal.pending_events import PendingEvents
from core.journal.producers import ProducerKey, ProducerStep, Progress
from core.journal.quota import Account
from core.journal.worker_changes import RecalledWorkers, WorkersChangedError
from core.journal.worker_step import WorkerStep
from core.journal.workers import WorkerCache
from core.models import Worker, WorkerName
from core.postgres import copy_rows, partitions, psycopg_internals, session_lock
from core.postgres.pipeline import BEGIN, COMMIT, LOCK_TIMEOUT, Command, CopyCommand, send
from core.postgres.sessions import Connection
from core.tracing import UNTRACED

# Each takes some 25 us more of PostgreSQL; the round trip that is saved takes 300 to 450 us.
MAX_WHOLE_EVENTS: Final = 8


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
        self._mode = mode
        for request in requests:
            request.reset()
        self._workers = WorkerStep(requests, cache, now_us)
        self._idempotency = IdempotencyStep(requests)
        self._producer_step = ProducerStep(requests)
        # A stream is told what is left even if it writes nothing.
        asking = [request for request in requests if request.accepted or request.is_streamed]
        self._accounts = {request.account for request in asking}
        self.recalled = RecalledWorkers(
            cache, {account.organization_id for account in self._accounts}
        )
        self.commit_lock: CommitLock | None = None
        self._read_quotas: Command | None = None
        self._commit = Command(COMMIT)
        self._charge: Command | None = None
        self._row_commands: Sequence[Command] = ()
        self._rows = copy_rows.NO_ROWS
        self.outcomes: list[Verdict] = []
        self.probe_row: tuple[UUID, UUID] | None = None
        self.advanced: dict[ProducerKey, Progress] = {}
        self.has_keys = False
        self.is_as_expected = True
        self.committing = False
        self.step = UNTRACED

    @property
    def resolved(self) -> Mapping[WorkerName, Worker]:
        """The workers to cache once it is committed."""
        return self._workers.resolved

    @property
    def is_short(self) -> bool:
        """Whether others have charged an account meanwhile, and too little is left."""
        return quota.is_short(self._charge)

    @property
    def lacks_partition(self) -> bool:
        """Whether there is no partition for an event."""
        return any(partitions.is_missing(command.error) for command in self._row_commands)

    async def write(self, db: Connection, lock_seconds: float | None = None) -> None:
        """Find the outcome of each request, write the accepted items, and commit.

        ``lock_seconds``: the longest wait for a lock, None as in the session.

        Raises :class:`UnexpectedOutcomeError` (:class:`Mode`), :class:`WorkersChangedError`, and
        :class:`InFailedSqlTransaction` if the server rolled back instead.
        """
        expects_all = self._mode is Mode.OPTIMISTIC and self._workers.knows_all
        try:
            if expects_all and self._is_small() and (lock_id := session_lock.held_by(db)):
                await self._write_whole(db, lock_seconds, lock_id)
            elif expects_all and self._has_events():
                await self._write_optimistic(db, lock_seconds)
            else:
                await self._write_stepwise(db, lock_seconds)
        finally:
            self.has_keys = self._idempotency.is_answered
        self._check()

    def _has_events(self) -> bool:
        return any(isinstance(request, PendingEvents) for request in self._requests)

    def _is_small(self) -> bool:
        """Whether it is one small request, and no stream's: an ack tells exactly what is left."""
        request = self._requests[0]
        is_lone = len(self._requests) == 1 and not request.is_streamed
        return is_lone and 0 < len(request.accepted) <= MAX_WHOLE_EVENTS

    async def _write_whole(self, db: Connection, lock_seconds: float | None, lock_id: int) -> None:
        """Send all of it with the COMMIT. Its statements fail unless all is as expected."""
        [request] = self._requests
        organization_id = request.caller.organization_id
        self.commit_lock = CommitLock(lock_id, [organization_id])
        if isinstance(request, PendingEvents):
            self._row_commands = rows.inserts(request)
            self.probe_row = (organization_id, request.first_id())
        else:
            self._row_commands = self._store_snapshots()
        changes = self.recalled.recalled[organization_id]
        self._charge = quota.charge_lone(request.account, len(request.accepted), changes)
        commands = [
            *self._begin(lock_seconds),
            self._idempotency.claim_lone(),
            self.recalled.lock,
            *self._row_commands,
            self._charge,
            self._commit,
        ]
        psycopg_internals.check_open(db)  # if it raises, nothing needs to be asked
        self._expect_outcomes()
        try:
            await self.step("write and commit", send(db, commands))
        except DivisionByZero as error:
            self.is_as_expected = False
            raise UnexpectedOutcomeError from error

    async def _write_optimistic(self, db: Connection, lock_seconds: float | None) -> None:
        copy = self._begin_copy()
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

    async def _write_stepwise(self, db: Connection, lock_seconds: float | None) -> None:
        # The COPY begins in the first round trip, unless workers have to be asked for before.
        copy = self._begin_copy() if self._workers.knows_all and self._has_events() else None
        await self.step("claim", send(db, [*self._first(lock_seconds), copy]))
        await self._check_workers(db, copy)
        has_all_keys = self._idempotency.has_all
        if not has_all_keys:
            if copy is not None:
                await copy.write(db, copy_rows.NO_ROWS)  # to end it
                copy = None
            await self.step("claim held keys", self._idempotency.answer_others(db))
        in_sequence = self._producer_step.check()
        await self.step("find workers", self._workers.find(db))
        all_fit = self._apply_quotas()
        self.is_as_expected = has_all_keys and in_sequence and all_fit
        await self.step("provide workers", self._workers.provide(db))
        self._pack_rows()
        if copy is None and self._rows != copy_rows.NO_ROWS:
            copy = self._begin_copy()
            await send(db, [copy])
        if copy is not None:
            await self.step("copy", copy.write(db, self._rows))
        self._expect_outcomes()
        await self.step("commit", send(db, self._last()))

    def _begin_copy(self) -> CopyCommand:
        copy = CopyCommand(copy_rows.COPY_EVENTS)
        self._row_commands = (copy,)
        return copy

    def _begin(self, lock_seconds: float | None) -> list[Command]:
        if lock_seconds is None:
            return [Command(BEGIN)]
        milliseconds = f"{lock_seconds * 1_000 + 1:.0f}ms"  # 0 has no end
        return [Command(BEGIN), Command(LOCK_TIMEOUT, milliseconds)]

    def _first(self, lock_seconds: float | None) -> list[Command | None]:
        """The commands that ask and lock, for all requests."""
        if self._accounts:
            self.commit_lock = CommitLock.of(self.recalled.recalled)
            self._read_quotas = quota.read(self._accounts, self.commit_lock)
        return [
            *self._begin(lock_seconds),
            self._idempotency.claim(),
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
            *self._store_snapshots(),
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

    def _pack_rows(self) -> None:
        self._rows, probe_row = rows.packed(self._live())
        self.probe_row = probe_row or self.probe_row

    def _store_snapshots(self) -> list[Command]:
        arrived = rows.arrived(self._live())
        if arrived:
            self.probe_row = (arrived[-1].organization_id, arrived[-1].id)
        return snapshots.store(arrived)
