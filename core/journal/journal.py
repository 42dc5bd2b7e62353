"""The journal makes accepted data durable; it is the only writer of events.

Waiting requests are committed together. A transaction of many requests has one claim of
idempotency keys, one look-up of workers, one COPY, one charge of quotas and one COMMIT
(core/journal/transaction.py, core/journal/writer.py). Single requests and batches of streams have
a queue each (core/journal/queue.py), and each queue writes one transaction at a time. No timer
forms a transaction: a lone request has one to itself at once, and others wait for the end of the
last one, with what the event loop has at hand by then.
Every request is answered after its own durable commit, and judged as if it had been alone. Requests
that meet a lock of another process leave for a lock wait (core/journal/lock_waits.py).
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Sequence
from functools import partial
from typing import Final

from core.clock import Clock
from core.counters import Counters
from core.errors import UnknownCommitStatusError, unavailable
from core.failure_log import one_line
from core.journal.answer_deadlines import CHECK_SECONDS, AnswerDeadlines
from core.journal.failures import fail, too_late
from core.journal.judging import is_answered, judged, refuse
from core.journal.lock_waits import TRY_SECONDS, LockedError, LockWaits, still_locked
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
from core.models import Receipt
from core.postgres.database import Database
from core.postgres.errors import is_away
from core.tracing import Tracer

log = logging.getLogger(__name__)

# Clients give up after 15 seconds, and are to have an answer before.
MAX_WAIT_SECONDS: Final = 6.0  # until a request is begun
MAX_ANSWER_SECONDS: Final = 12.5  # until it is answered
# A locked request waits for its lock until so long before its answer is due.
LAST_TRY_SECONDS: Final = 0.25
# The parts of a transaction that has waited for a lock in vain find out whose lock it is. They do
# not wait themselves.
PART_LOCK_SECONDS: Final = 0.01


class Journal:
    """Commits requests in the order of their :meth:`enqueue`, while :meth:`run` runs.

    An answer that does not come by itself comes late: a request that is not begun within
    ``MAX_WAIT_SECONDS``, or not committed within ``MAX_ANSWER_SECONDS``, fails with
    ``internal_error``. The error says whether it may have been written. A request whose idempotency
    key is being written by an earlier one waits for that for ``MAX_ANSWER_SECONDS``.

    ``cache``: may be shared by the journals of a process.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        counters: Counters,
        cache: WorkerCache,
        tracer: Tracer | None = None,
    ) -> None:
        self._clock = clock
        self._counters = counters
        self._counted_waiting = 0
        # One writer a queue: the usual outcome of one queue says nothing of the other's.
        self._single_writer = Writer(database, clock, cache, tracer)
        self._stream_writer = Writer(database, clock, cache, tracer)
        self._deadlines = AnswerDeadlines(self._answer_waiting)
        # One queue each, so that a small request need not wait for the transaction of a stream.
        self._single = Queue(MAX_SINGLE_EVENTS, MAX_SINGLE_REQUESTS)
        self._streamed = Queue(MAX_STREAMED_EVENTS, MAX_STREAMED_BATCHES)
        self._queues = (self._single, self._streamed)
        self._closing = False
        self._lock_waits = LockWaits(self._write_locked, self._put_back, database.locked_writers)

    def enqueue(self, request: PendingRequest) -> asyncio.Future[Outcome]:
        """Add a request behind all earlier ones; the future is its answer after the commit.

        The future is done before clients give up. It fails with :class:`IngestError` for the code
        of the first item if every item is rejected, for a used idempotency key or for
        ``internal_error``, and with :class:`StreamError` for a batch out of its sequence. An error
        means that nothing is stored, except the one that says it cannot be known. Cancelling the
        future takes the request out, unless it is being written.

        Raises ``internal_error`` if the service is shutting down.
        """
        if self._closing:
            raise unavailable("The service is shutting down. Retry shortly.")
        answer = request.answer = asyncio.get_running_loop().create_future()
        answer.add_done_callback(partial(self._release, request))
        self._deadlines.add(request, MAX_ANSWER_SECONDS)
        if not is_answered(request):
            self._queue_of(request).append(request)
        return answer

    def _release(self, request: PendingRequest, answer: asyncio.Future[Outcome]) -> None:
        """Forget a request that is answered, or whose answer nobody waits for."""
        self._deadlines.remove(request)
        if answer.cancelled():
            self._take_out(request)
        elif answer.exception() is not None:
            # The error's traceback holds frames that hold the request. If the request held the
            # error in turn, its whole body would stay until the garbage collector looks.
            request.answer = asyncio.get_running_loop().create_future()
            request.answer.cancel()
        if request.notes is not None:
            request.notes(answer)

    def _take_out(self, request: PendingRequest) -> None:
        """Have an answered request wait no more; one that is being written stays."""
        if request.is_being_written:
            return
        if request.lock_wait is not None:
            self._lock_waits.remove(request)
        else:
            self._queue_of(request).remove(request)

    def _answer_waiting(self) -> None:
        """Answer what needs no database to be refused, and what has waited for one for too long."""
        self._count_waiting()
        waiting = (
            request
            for request in self._deadlines.due_within(MAX_ANSWER_SECONDS - CHECK_SECONDS)
            if not request.is_being_written
        )
        for request in refuse(waiting):
            self._take_out(request)
        self._answer_overdue()

    def _answer_overdue(self) -> None:
        now = asyncio.get_running_loop().time()
        for request in self._deadlines.due_within(MAX_ANSWER_SECONDS - MAX_WAIT_SECONDS):
            waits_on = (
                request.is_being_written or request.lock_wait is not None or request.was_set_aside
            )
            if request.answer.done() or (not waits_on and self._joined_twin(request)):
                continue
            if request.give_up_at <= now or not waits_on:
                request.answer.set_exception(too_late(request))
                self._take_out(request)

    async def run(self) -> None:
        """Commit waiting requests until :meth:`close` was called and none waits any more."""
        await asyncio.gather(*map(self._commit_all, self._queues))

    def close(self) -> None:
        """Refuse new requests; :meth:`run` ends after those that wait."""
        self._closing = True
        self._wake()

    async def _commit_all(self, queue: Queue) -> None:
        while True:
            self._count_waiting()
            if requests := queue.pop_transaction(self._joined_lock_wait):
                if requests := await judged(requests):
                    await self._commit(requests)
                await queue.collect()
            elif not queue:
                if self._closing and not self._lock_waits:
                    return
                await queue.wait()

    def _queue_of(self, request: PendingRequest) -> Queue:
        return self._streamed if request.is_streamed else self._single

    def _writer_of(self, request: PendingRequest) -> Writer:
        return self._stream_writer if request.is_streamed else self._single_writer

    def _put_back(self, requests: Sequence[PendingRequest]) -> None:
        for request in reversed(requests):
            request.was_set_aside = True
            self._queue_of(request).put_back([request])
        self._wake()  # there is a lock wait less, on which the end of both queues waits

    def _wake(self) -> None:
        for queue in self._queues:
            queue.wake()

    def __len__(self) -> int:  # of requests that wait for their transaction
        return sum(map(len, self._queues))

    def _count_waiting(self) -> None:
        waiting = len(self)
        self._counters.waiting(waiting - self._counted_waiting)
        self._counted_waiting = waiting

    async def _commit(
        self, requests: Sequence[PendingRequest], lock_seconds: float | None = None
    ) -> None:
        """Write requests together and answer them, but for those that leave for a lock wait."""
        begin = self._clock.monotonic()
        try:
            outcomes = await self._writer_of(requests[0]).write(requests, lock_seconds)
        except LockedError as error:
            await self._commit_parts(self._lock_waits.halves(requests, error))
        except Exception as error:
            self._count(requests, begin, committed=False)
            if len(requests) == 1 or is_away(error) or isinstance(error, UnknownCommitStatusError):
                fail(requests, error)
                return
            # One request spoils the transaction and the database does not say which: each alone.
            log.error(
                "a transaction of %d requests failed, trying one by one: %s",
                len(requests),
                one_line(error),
            )
            await self._commit_parts([[request] for request in requests])
        else:
            self._count(requests, begin, committed=True)
            self._answer(requests, outcomes)

    async def _commit_parts(self, parts: Sequence[Sequence[PendingRequest]]) -> None:
        for request in itertools.chain.from_iterable(parts):
            request.is_being_written = False  # nothing is written: it may still give up
        for part in parts:
            left = [
                request
                for request in part
                if not request.answer.done() and not self._joined_lock_wait(request)
            ]
            for request in left:
                request.is_being_written = True
            if left:
                await self._commit(left, PART_LOCK_SECONDS)

    def _joined_lock_wait(self, request: PendingRequest) -> bool:
        """Whether the request had to join a lock wait."""
        key = self._lock_waits.key_of(request)
        if key is None:
            return False
        self._lock_waits.add(key, request)
        return True

    def _joined_twin(self, request: PendingRequest) -> bool:
        """Whether the request leaves its queue to wait for the one that has its idempotency key."""
        scope = request.claim.scope if request.claim else None
        if scope is None or not any(scope in queue.in_flight for queue in self._queues):
            return False
        if not self._lock_waits.may_add(scope) or not self._queue_of(request).remove(request):
            return False  # or it is the one itself, about to be written
        self._lock_waits.add(scope, request)
        return True

    async def _write_locked(self, request: PendingRequest) -> bool:
        """Try a request of a lock wait; returns whether it is still locked out."""
        now = asyncio.get_running_loop().time()
        left = request.give_up_at - LAST_TRY_SECONDS - now
        if left <= 0:
            if not request.answer.done():
                request.answer.set_exception(still_locked(request))
            return True
        request.is_being_written = True
        if not await judged([request]):
            return True  # nobody knows of the lock
        begin = self._clock.monotonic()
        try:
            outcomes = await self._writer_of(request).write([request], min(left, TRY_SECONDS))
        except LockedError:
            request.is_being_written = False
            return True
        except Exception as error:
            self._count([request], begin, committed=False)
            fail([request], error)
        else:
            self._count([request], begin, committed=True)
            self._answer([request], outcomes)
        return False

    def _count(self, requests: Sequence[PendingRequest], begin: float, *, committed: bool) -> None:
        events = sum(len(request.actor_indexes) for request in requests)
        self._counters.transaction(events, self._clock.monotonic() - begin, committed=committed)

    def _answer(self, requests: Sequence[PendingRequest], outcomes: Sequence[Verdict]) -> None:
        accepted = 0
        for request, outcome in zip(requests, outcomes, strict=True):
            if request.answer.done():
                continue
            if isinstance(outcome, Exception):
                request.answer.set_exception(outcome)
            else:
                request.answer.set_result(outcome)
                if isinstance(outcome, Receipt) and not (outcome.replayed or outcome.duplicate):
                    accepted += outcome.accepted
        self._counters.accept(accepted)
