"""A group: drafts written together in one transaction, each judged as if it were alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from uuid import UUID

from core import idempotency, ids, producers, quota, rows, snapshots, workers
from core.database import Connection
from core.drafts import Draft, EventsDraft, SnapshotDraft
from core.events import Actor, Worker, WorkerName
from core.idempotency import Claim, Scope, StoredReceipt
from core.snapshots import SnapshotRow
from core.workers import WorkerCache


class Group:
    """One attempt to write drafts, in their order of arrival.

    After :meth:`write` every draft knows its outcome, which is true once the transaction commits.
    ``resolved`` are the names to cache after that. ``has_claimed``: a lock that is met later is not
    an idempotency key's. After a connection was lost while committing, ``transaction_id`` tells
    whether that is still going on. Whether it took effect is told by the ``witness``, the
    organization and id of a row that was written; if none was, by the producers that were
    ``advanced``.
    """

    def __init__(self, drafts: Sequence[Draft], cache: WorkerCache, now_us: int) -> None:
        self._drafts = drafts
        self._cache = cache
        self._now_us = now_us
        self.resolved: dict[WorkerName, Worker] = {}
        self.transaction_id: str | None = None
        self.witness: tuple[UUID, UUID] | None = None
        self.advanced: dict[producers.ProducerKey, producers.Progress] = {}
        self.has_claimed = False
        self.written = False

    async def write(self, db: Connection) -> None:
        """Run the group's statements.

        Every process takes locks in this order and, within a statement, in sorted order:
        idempotency keys, producers, quota accounts, links, workers, cards. So groups cannot
        deadlock.
        """
        for draft in self._drafts:
            draft.reset()
        expected = await self._claim_keys(db)
        self.has_claimed = True
        await self._take_places(db)
        live = [draft for draft in self._drafts if draft.replay is None]
        await self._find_workers(db, live)
        await self._charge_quota(db, live)
        await self._advance_producers(db)
        await self._provide_workers(db)
        await self._write_rows(db, live)
        await self._settle_keys(db, live, expected)
        self.written = True

    async def _claim_keys(self, db: Connection) -> dict[Scope, StoredReceipt]:
        """Claim keys, or learn what they already answer; returns the claims with their receipts."""
        keyed: dict[Scope, Draft] = {}
        claims: list[tuple[Claim, StoredReceipt]] = []
        for draft in self._drafts:
            if draft.claim is not None:
                # Also of a draft that can write nothing, so that it waits for a first request that
                # is in flight on another replica; its claim is given back.
                keyed[draft.claim.scope] = draft
                claims.append((draft.claim, draft.stored_receipt()))
        held = await idempotency.claim(db, claims)
        for scope, (digest, receipt) in held.items():
            keyed[scope].answer_as(digest, receipt)
        return {claim.scope: receipt for claim, receipt in claims if claim.scope not in held}

    async def _take_places(self, db: Connection) -> None:
        """Find which batches are their producers' next ones; the others are not written."""
        placed = [
            (producers.key(draft.caller, draft.position.producer_id), draft)
            for draft in self._drafts
            if isinstance(draft, EventsDraft) and draft.position is not None
        ]
        self._progress = await producers.lock(db, [producer for producer, _ in placed])
        self._advancing: list[tuple[producers.ProducerKey, EventsDraft]] = []
        ahead = dict(self._progress)  # what is accepted of each is not known yet
        for producer, draft in placed:
            current = ahead.get(producer)
            if draft.take_place(current):
                assert current is not None
                ahead[producer] = current.after(0, 0)
                self._advancing.append((producer, draft))

    async def _advance_producers(self, db: Connection) -> None:
        """Once it is decided what of their batches is accepted. They are locked already."""
        reached: dict[producers.ProducerKey, producers.Progress] = {}
        for producer, draft in self._advancing:
            current = reached.get(producer, self._progress[producer])
            reached[producer] = current.after(len(draft.positions), len(draft.rejected))
        await producers.advance(db, reached)
        self.advanced = reached

    async def _find_workers(self, db: Connection, live: Sequence[Draft]) -> None:
        self._incomplete: list[Draft] = []
        missing: dict[WorkerName, Actor] = {}
        for draft in live:
            draft.workers = list(map(self._cache.get, draft.names))
            if not all(draft.workers):
                self._incomplete.append(draft)
                for name, actor, worker in zip(
                    draft.names, draft.actors, draft.workers, strict=True
                ):
                    if worker is None:
                        missing.setdefault(name, actor)
        self.resolved = await workers.find(db, missing)
        for draft in self._incomplete:
            draft.learn(self.resolved)
            draft.refuse_unknown()

    async def _charge_quota(self, db: Connection, live: Sequence[Draft]) -> None:
        wanted: defaultdict[quota.Account, int] = defaultdict(int)
        for draft in live:
            if draft.positions:
                wanted[draft.account] += len(draft.positions)
        # A stream is told what is left even if it writes nothing: that charges 0.
        telling = [d for d in self._drafts if isinstance(d, EventsDraft) and d.streamed]
        for draft in telling:
            wanted[draft.account] += 0
        grants, self.transaction_id = await quota.charge(db, wanted)
        for draft in live:
            if draft.positions:
                grants[draft.account] = draft.grant(grants[draft.account])
        for draft in telling:
            draft.quota_left = grants[draft.account].left

    async def _provide_workers(self, db: Connection) -> None:
        # Only for items that will be written: a rejected event makes nobody.
        needed: dict[WorkerName, Actor] = {}
        for draft in self._incomplete:
            for slot in dict.fromkeys(map(draft.slots.__getitem__, draft.positions)):
                if draft.workers[slot] is None:
                    needed.setdefault(draft.names[slot], draft.actors[slot])
        self.resolved |= await workers.provide(db, needed, self._now_us)
        for draft in self._incomplete:
            draft.learn(self.resolved)

    async def _write_rows(self, db: Connection, live: Sequence[Draft]) -> None:
        pieces: list[bytes] = []
        arrived: list[SnapshotRow] = []
        for draft in live:
            if not draft.positions:
                continue
            caller = draft.caller
            first_id = ids.ulid_bits(draft.received_us)
            self.witness = (caller.organization_id, UUID(int=first_id))
            if isinstance(draft, EventsDraft):
                slots, tails = draft.slots, draft.checked.tails
                if len(draft.positions) < len(slots):
                    slots = [slots[position] for position in draft.positions]
                    tails = [tails[position] for position in draft.positions]
                pieces += rows.assemble(
                    caller.organization_id, caller.app_id, first_id, draft.workers, slots, tails
                )
            elif isinstance(draft, SnapshotDraft):
                worker = draft.workers[0]
                assert worker is not None
                arrived.append(
                    SnapshotRow(
                        caller.organization_id,
                        caller.app_id,
                        UUID(int=first_id),
                        worker.id,
                        draft.checked,
                    )
                )
        if pieces:
            async with db.cursor() as cursor, cursor.copy(rows.COPY_EVENTS) as copy:
                await copy.write(b"".join([rows.SIGNATURE, *pieces, rows.TRAILER]))
        await snapshots.store(db, arrived)

    async def _settle_keys(
        self, db: Connection, live: Sequence[Draft], expected: dict[Scope, StoredReceipt]
    ) -> None:
        """Correct the claims whose receipt came out otherwise; give back those not needed."""
        corrected: list[tuple[Scope, StoredReceipt]] = []
        unused: list[Scope] = []
        for draft in live:
            if draft.claim is None or draft.claim.scope not in expected:
                continue
            scope = draft.claim.scope
            if not draft.positions:
                unused.append(scope)
            elif (receipt := draft.stored_receipt()) != expected[scope]:
                corrected.append((scope, receipt))
        await idempotency.store(db, corrected)
        await idempotency.release(db, unused)
