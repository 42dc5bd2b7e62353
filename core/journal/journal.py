"""The journal: where what was accepted becomes durable, and the only writer of events.

Drafts are committed in groups, each in one transaction: one claim of idempotency keys, one look-up
of workers, one COPY, one charge of quotas, one COMMIT (core/journal/transaction.py, core/journal/writer.py). There is a
queue of single requests and one of streams' batches, each written by a task of its own, a group at
a time. No timer forms a group: it is what has come to the queue by the time that the last one is
committed, as much of it as a transaction may have (core/journal/queue.py). Every member of a group is
answered after its own durable commit, and judged as if it had been alone. Members that meet a lock
which another process holds for long leave the group for a lane (core/journal/lock_waits.py).
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from core.clock import Clock
from core.counters import Counters
from core.error_codes import ErrorCode
from core.errors import IngestError, UnknownCommitStatusError, unavailable
from core.journal.held_requests import HeldRequests, overloaded
from core.journal.lock_waits import (
    LOCK_WAIT_TURN_SECONDS,
    LockedError,
    LockWaitKey,
    LockWaits,
    still_locked,
)
from core.journal.pending import Outcome, PendingRequest, Verdict
from core.journal.queue import (
    MAX_SINGLE_EVENTS,
    MAX_SINGLE_REQUESTS,
    MAX_STREAMED_BATCHES,
    MAX_STREAMED_EVENTS,
    Queue,
)
from core.journal.workers import WorkerCache
from core.journal.writer import Writer
from core.postgres.database import Database
from core.postgres.errors import is_connection_loss, is_passing, one_line, passing

log = logging.getLogger(__name__)

# Clients give up after 15 seconds, and are to have an answer before.
MAX_WAIT_SECONDS: Final = 6.0  # until a draft is begun
MAX_ANSWER_SECONDS: Final = 12.5  # until it is answered
PATIENCE_CHECK_SECONDS: Final = 0.25  # between looks at who has waited for so long
# A draft in a lane is not begun again with less than this left until its answer is due.
LAST_TURN_SECONDS: Final = 1.0
# The parts of a group that has already waited in vain are to find out who is locked, not to wait.
PART_LOCK_SECONDS: Final = 0.01


class Journal:
    """Commits drafts in groups, while :meth:`run` runs."""

    def __init__(self, database: Database, clock: Clock, counters: Counters) -> None:
        self._clock = clock
        self._counters = counters
        cache = WorkerCache()
        # Apart like the queues: what is usual for one says nothing of the other.
        self._single_writer = Writer(database, clock, cache)
        self._stream_writer = Writer(database, clock, cache)
        self._held = HeldRequests()
        # Apart, so that a small request need not wait for the transaction of a stream.
        self._single = Queue(MAX_SINGLE_EVENTS, MAX_SINGLE_REQUESTS)
        self._streamed = Queue(MAX_STREAMED_EVENTS, MAX_STREAMED_BATCHES)
        self._queues = (self._single, self._streamed)
        self._closing = False
        self._patience: asyncio.TimerHandle | None = None
        self._lanes = LockWaits(self._write_parked, self._give_back)

    async def commit(self, draft: PendingRequest) -> Outcome:
        """Wait for the draft's durable commit and return its receipt.

        Raises :class:`IngestError`: what the database decided (``worker_not_found``,
        ``quota_exceeded``, a used idempotency key), or ``internal_error``; :class:`StreamError` for
        a batch out of its sequence. An error means that nothing is stored, except the one that says
        it cannot be known. There is an answer before clients give up.
        """
        if self._closing:
            raise unavailable("The service is shutting down. Retry shortly.")
        loop = asyncio.get_running_loop()
        draft.answer = loop.create_future()
        draft.give_up_at = loop.time() + MAX_ANSWER_SECONDS
        self._held.add(draft)
        self._queue_of(draft).join(draft)
        self._count_waiting()
        if self._patience is None:
            self._patience = loop.call_later(PATIENCE_CHECK_SECONDS, self._end_patience)
        try:
            return await draft.answer
        except asyncio.CancelledError:
            if not draft.answer.cancel() and not draft.answer.cancelled():
                draft.answer.exception()  # which nobody will retrieve
            self._take_out(draft)
            raise
        except Exception:
            # The error's traceback holds this frame, and so the draft. If the draft held the error
            # in turn, a whole body would stay in memory until the garbage collector looks.
            draft.answer = loop.create_future()
            draft.answer.cancel()
            raise
        finally:
            self._held.remove(draft)

    async def until_wanted(self) -> None:
        """Wait while so much of streams waits to be written that more would only be in the way."""
        await self._streamed.has_room.wait()

    def _take_out(self, draft: PendingRequest) -> None:
        """Have a draft that is answered wait no more; one that is being written stays so."""
        if draft.started:
            return
        if draft.lane is not None:
            self._lanes.forget(draft)
        else:
            self._queue_of(draft).leave(draft)

    def _end_patience(self) -> None:
        """Answer the drafts that have waited for too long; one timer looks after all of them."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for draft in self._held.given_up_by(now + MAX_ANSWER_SECONDS - MAX_WAIT_SECONDS):
            begun = draft.started or draft.lane is not None
            if not draft.answer.done() and (draft.give_up_at <= now or not begun):
                draft.answer.set_exception(_too_late(draft))
                self._take_out(draft)
        self._patience = (
            loop.call_later(PATIENCE_CHECK_SECONDS, self._end_patience) if self._held else None
        )

    async def run(self) -> None:
        """Commit what waits until :meth:`close` was called and nothing waits any more."""
        await asyncio.gather(*map(self._commit_all, self._queues))

    def close(self) -> None:
        """Refuse new drafts; :meth:`run` ends after those that wait."""
        self._closing = True
        self._wake()

    async def _commit_all(self, queue: Queue) -> None:
        while True:
            if group := queue.take_group(self._parked):
                self._count_waiting()
                await self._commit_group(group)
            elif not queue:
                if self._closing and not self._lanes:
                    return
                await queue.wait()

    def _queue_of(self, draft: PendingRequest) -> Queue:
        return self._streamed if draft.streamed else self._single

    def _writer_of(self, draft: PendingRequest) -> Writer:
        return self._stream_writer if draft.streamed else self._single_writer

    def _give_back(self, drafts: Sequence[PendingRequest]) -> None:
        for draft in reversed(drafts):
            self._queue_of(draft).put_back([draft])
        self._wake()

    def _wake(self) -> None:
        for queue in self._queues:
            queue.wake()

    def _count_waiting(self) -> None:
        self._counters.waiting(sum(map(len, self._queues)))

    async def _commit_group(
        self, group: Sequence[PendingRequest], lock_seconds: float | None = None
    ) -> None:
        """Write a group and answer its members, but for those that leave it for a lane."""
        begin = self._clock.monotonic()
        try:
            outcomes = await self._writer_of(group[0]).write(group, lock_seconds)
        except LockedError as error:
            await self._step_aside(group, error)
        except Exception as error:
            self._count(group, begin, committed=False)
            if (
                len(group) == 1
                or is_connection_loss(error)
                or isinstance(error, UnknownCommitStatusError)
            ):
                self._fail(group, error)
                return
            # One member spoils the group and the database does not say which: each alone.
            log.error("a group of %d failed, trying one by one: %s", len(group), one_line(error))
            await self._commit_parts([[draft] for draft in group])
        else:
            self._count(group, begin, committed=True)
            self._answer(group, outcomes)

    async def _commit_parts(self, parts: Sequence[Sequence[PendingRequest]]) -> None:
        for draft in itertools.chain.from_iterable(parts):
            draft.started = False  # nothing is written: who gives up before its turn may
        for part in parts:
            left = [draft for draft in part if not draft.answer.done() and not self._parked(draft)]
            for draft in left:
                draft.started = True
            if left:
                await self._commit_group(left, PART_LOCK_SECONDS)

    async def _step_aside(self, group: Sequence[PendingRequest], error: LockedError) -> None:
        """Find whom a lock is in the way of, by halves; they go to a lane, the others go on.

        An organization's drafts stay together and in their order, unless the lock is a key's.
        """
        organizations: dict[UUID, list[PendingRequest]] = {}
        for draft in group:
            organizations.setdefault(draft.caller.organization_id, []).append(draft)
        if len(organizations) > 1:
            blocks = list(organizations.values())
        elif error.at_key and len(group) > 1 and self._lanes.room_for_keys_of(*organizations):
            blocks = [[draft] for draft in group]
        else:
            key: LockWaitKey = group[0].caller.organization_id
            if error.at_key and len(group) == 1 and group[0].claim is not None:
                key = group[0].claim.scope
            log.warning("%d drafts wait for a lock that another process holds", len(group))
            for draft in group:
                self._lanes.park(key, draft)
            return
        half = len(blocks) // 2
        await self._commit_parts(
            [list(itertools.chain(*part)) for part in (blocks[:half], blocks[half:])]
        )

    def _parked(self, draft: PendingRequest) -> bool:
        """Whether the draft had to join a lane."""
        lane = self._lanes.of(draft)
        if lane is None:
            return False
        self._lanes.park(lane, draft)
        return True

    async def _write_parked(self, draft: PendingRequest) -> bool:
        now = asyncio.get_running_loop().time()
        left = draft.give_up_at - LAST_TURN_SECONDS - now
        if left <= 0:
            if not draft.answer.done():
                draft.answer.set_exception(still_locked(draft))
            return True
        draft.started = True
        begin = self._clock.monotonic()
        try:
            outcomes = await self._writer_of(draft).write(
                [draft], min(left, LOCK_WAIT_TURN_SECONDS)
            )
        except LockedError:
            draft.started = False
            return True
        except Exception as error:
            self._count([draft], begin, committed=False)
            self._fail([draft], error)
        else:
            self._count([draft], begin, committed=True)
            self._answer([draft], outcomes)
        return False

    def _count(self, group: Sequence[PendingRequest], begin: float, *, committed: bool) -> None:
        events = sum(len(draft.slots) for draft in group)
        self._counters.group(events, self._clock.monotonic() - begin, committed=committed)

    def _answer(self, group: Sequence[PendingRequest], outcomes: Sequence[Verdict]) -> None:
        for draft, outcome in zip(group, outcomes, strict=True):
            if draft.answer.done():
                continue
            if isinstance(outcome, Exception):
                draft.answer.set_exception(outcome)
            else:
                draft.answer.set_result(outcome)

    def _fail(self, group: Sequence[PendingRequest], error: Exception) -> None:
        # The adapters log what each client is told, with its request id and this cause.
        for draft in group:
            if not draft.answer.done():
                draft.answer.set_exception(_answer_to(error))


def _too_late(draft: PendingRequest) -> IngestError:
    if draft.started:
        # It will be settled for those who ask with the same key.
        return _answer_to(UnknownCommitStatusError("no answer in time"))
    return overloaded() if draft.lane is None else still_locked(draft)


def _answer_to(error: Exception) -> IngestError:
    """What a client is told of an error that is not its own; the error is its cause."""
    if isinstance(error, UnknownCommitStatusError):
        answer = unavailable(
            "The service lost its storage while writing: this may or may not be stored. Retry with "
            "the same Idempotency-Key; a producer opens its stream again, which tells how far it "
            "has come."
        )
    elif is_passing(error):
        answer = passing(error)
    else:
        answer = IngestError(
            ErrorCode.INTERNAL_ERROR,
            "The service failed unexpectedly. Nothing was written. Retry with backoff.",
        )
    answer.__cause__ = error
    return answer
