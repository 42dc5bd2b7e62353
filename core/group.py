"""A group: drafts written together in one transaction, each judged as if it were alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from uuid import UUID

from psycopg.errors import InFailedSqlTransaction

from core import idempotency, ids, producers, quota, rows, snapshots, workers
from core.database import Connection
from core.drafts import Draft, EventsDraft, SnapshotDraft, Verdict
from core.events import Actor, Worker, WorkerName
from core.idempotency import Scope, StoredReceipt
from core.producers import ProducerKey, Progress
from core.quota import Account
from core.snapshots import SnapshotRow
from core.statements import BEGIN, COMMIT, LOCK_TIMEOUT, Call, Copy, send
from core.workers import WorkerCache


class Group:
    """One attempt to write drafts, in their order of arrival.

    Quotas are read at the beginning and charged together with the COMMIT, so that a charge locks
    its account only for a moment. If another transaction has charged the account in between and
    too little is left, :meth:`commit` fails with an error that :func:`quota.is_short` recognizes.
    A ``contended`` group, which is the next attempt then, locks the accounts before it reads them.

    The ``outcomes`` are true once :meth:`commit` has returned; ``resolved`` are the workers to
    cache after that. ``has_claimed``: the idempotency keys are claimed, so a lock that is waited
    for later is not a key's.

    If the connection is lost while ``committing``, it is open whether the group was committed.
    ``transaction_id`` tells whether the transaction is still going on. Whether it took effect is
    told by the ``witness``, the organization and id of a row that was written; if none was, by the
    producers that were ``advanced``.
    """

    def __init__(
        self, drafts: Sequence[Draft], cache: WorkerCache, now_us: int, *, contended: bool = False
    ) -> None:
        self._drafts = drafts
        self._cache = cache
        self._now_us = now_us
        self._contended = contended
        self._expected: dict[Scope, StoredReceipt] = {}  # of the keys that are claimed
        self._progress: dict[ProducerKey, Progress] = {}
        self._advancing: list[tuple[ProducerKey, EventsDraft]] = []
        self._incomplete: list[Draft] = []  # has workers that are not known
        self._charged: dict[Account, int] = {}
        self._snapshots: list[SnapshotRow] = []
        self.outcomes: list[Verdict] = []
        self.resolved: dict[WorkerName, Worker] = {}
        self.transaction_id: str | None = None
        self.witness: tuple[UUID, UUID] | None = None
        self.advanced: dict[ProducerKey, Progress] = {}
        self.has_claimed = False
        self.committing = False

    async def write(self, db: Connection, lock_seconds: float | None = None) -> None:
        """Begin the transaction, find what becomes of each draft, and write events and new workers.

        ``lock_seconds``: how long a lock is waited for, None as in the session. Every process takes
        locks in this order and, within a statement, in sorted order: idempotency keys, producers,
        links, workers, cards, quota accounts. So groups cannot deadlock, but for a contended one,
        which takes accounts before links: with one that makes the same person, or replaces the
        same card, it may, until the lock of either has been waited for too long.
        """
        for draft in self._drafts:
            draft.reset()
        self._recall_workers()
        # Also of a draft that can write nothing, so that it waits for a first request that is in
        # flight on another replica; its claim is given back.
        claims = [
            (draft.claim, draft.stored_receipt())
            for draft in self._drafts
            if draft.claim is not None
        ]
        placed = [
            (producers.key(draft.caller, draft.position.producer_id), draft)
            for draft in self._drafts
            if isinstance(draft, EventsDraft) and draft.position is not None
        ]
        begin = [Call(BEGIN)]
        if lock_seconds is not None:
            begin.append(Call(LOCK_TIMEOUT, f"{lock_seconds * 1_000:.0f}ms"))
        claim = idempotency.claim(claims)
        lock_producers = producers.lock([producer for producer, _ in placed])
        # A stream is told what is left even if it writes nothing.
        accounts = {draft.account for draft in self._drafts if draft.positions or draft.streamed}
        lock_accounts = quota.lock(accounts) if self._contended else None
        read_quotas = quota.read(accounts)
        # Begun in the same round trip, unless workers have to be asked for first.
        has_events = any(isinstance(draft, EventsDraft) for draft in self._drafts)
        copy = Copy(rows.COPY_EVENTS) if has_events and not self._incomplete else None
        try:
            await send(db, [*begin, claim, lock_producers, lock_accounts, read_quotas, copy])
        finally:
            self.has_claimed = claim is None or claim.done

        self._expected = {wish.scope: receipt for wish, receipt in claims}
        if claim is not None and claim.count < len(claims):
            if copy is not None:
                await copy.write(db, [rows.SIGNATURE, rows.TRAILER])  # of no rows, to end it
                copy = None
            await self._answer_held(db)
        self._take_places(placed, producers.locked(lock_producers))
        live = [draft for draft in self._drafts if draft.replay is None]
        await self._find_workers(db)
        self.transaction_id = quota.transaction_id(read_quotas)
        self._divide(live, quota.left(read_quotas))
        await self._provide_workers(db)
        await self._write_events(db, live, copy)
        self._snapshots = self._arrived(live)

    async def commit(self, db: Connection) -> None:
        """Write what follows from each draft's outcome, charge the quotas, and commit.

        Raises :class:`InFailedSqlTransaction` if the server rolled back instead.
        """
        self.advanced = self._reached()
        corrected, unused = self._keys_to_settle()
        charge = quota.charge(self._charged)
        last = [
            *snapshots.store(self._snapshots),
            producers.advance(self.advanced),
            idempotency.store(corrected),
            idempotency.release(unused),
            charge,
        ]
        commit = Call(COMMIT)
        # Before the commit: if this raised after it, all would be written again.
        self.outcomes = [draft.outcome() for draft in self._drafts]
        self.committing = True
        await send(db, [*last, commit])
        if commit.tag != COMMIT:
            raise InFailedSqlTransaction(f"COMMIT was answered with {commit.tag}")
        self._correct_what_is_left(quota.left(charge))

    def _correct_what_is_left(self, left: Mapping[Account, int | None]) -> None:
        """Tell what the charge left: others may have charged since the quotas were read."""
        for position, draft in enumerate(self._drafts):
            its_left = left.get(draft.account, draft.quota_left)
            if its_left != draft.quota_left:
                draft.quota_left = its_left
                self.outcomes[position] = draft.outcome()

    async def _answer_held(self, db: Connection) -> None:
        """Answer the drafts whose keys others hold."""
        held = await idempotency.held(db, list(self._expected))
        for draft in self._drafts:
            if draft.claim is not None and draft.claim.scope in held:
                draft.answer_as(*held[draft.claim.scope])
                del self._expected[draft.claim.scope]

    def _take_places(
        self,
        placed: Sequence[tuple[ProducerKey, EventsDraft]],
        progress: Mapping[ProducerKey, Progress],
    ) -> None:
        """Find which batches are their producers' next ones; the others are not written."""
        self._progress = dict(progress)
        ahead = dict(progress)  # what is accepted of each is not known yet
        for producer, draft in placed:
            current = ahead.get(producer)
            if draft.take_place(current):
                assert current is not None
                ahead[producer] = current.after(0, 0)
                self._advancing.append((producer, draft))

    def _reached(self) -> dict[ProducerKey, Progress]:
        """How far each producer is with what of its batches was accepted."""
        reached: dict[ProducerKey, Progress] = {}
        for producer, draft in self._advancing:
            current = reached.get(producer, self._progress[producer])
            reached[producer] = current.after(len(draft.positions), len(draft.rejected))
        return reached

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

    def _divide(self, live: Sequence[Draft], left: Mapping[Account, int | None]) -> None:
        """Give the drafts what their accounts have left, first come, first served."""
        room = dict(left)
        charged: defaultdict[Account, int] = defaultdict(int)
        for draft in live:
            if not draft.positions:
                continue
            account = draft.account
            its_room = room.setdefault(account, 0)  # none if the organization was removed
            if its_room is not None:
                room[account] = draft.grant(its_room)
            charged[account] += len(draft.positions)
        self._charged = {account: events for account, events in charged.items() if events}
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

    async def _write_events(self, db: Connection, live: Sequence[Draft], copy: Copy | None) -> None:
        pieces: list[bytes] = []
        for draft in live:
            if not (isinstance(draft, EventsDraft) and draft.positions):
                continue
            organization_id, app_id = draft.caller.organization_id, draft.caller.app_id
            slots, tails = draft.slots, draft.checked.tails
            if len(draft.positions) < len(slots):
                slots = [slots[position] for position in draft.positions]
                tails = [tails[position] for position in draft.positions]
            pieces += rows.assemble(organization_id, app_id, draft.workers, slots, tails)
            self.witness = (organization_id, draft.first_id())
        if copy is None and pieces:
            copy = Copy(rows.COPY_EVENTS)
            await send(db, [copy])
        if copy is not None:
            await copy.write(db, [rows.SIGNATURE, *pieces, rows.TRAILER])

    def _arrived(self, live: Sequence[Draft]) -> list[SnapshotRow]:
        arrived: list[SnapshotRow] = []
        for draft in live:
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
