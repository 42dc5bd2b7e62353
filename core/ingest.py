"""The one road every batch takes, whatever protocol it came by."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final, cast

from core.access.admission import MIN_JUDGED_IN_TURN, Admission
from core.access.authentication import MAX_CALLER_AGE_SECONDS, Authenticator
from core.access.fair_queue import STRANGERS, UNKEYED
from core.access.key_watch import KeyWatch
from core.access.memory_bounds import request_bytes, streamed_events
from core.access.rate_limits import RateLimiter
from core.access.shared_budget import Holding
from core.cells import Cell, Cells
from core.clock import Clock
from core.counters import Counters
from core.errors import IngestError, unavailable
from core.journal import app_producers, producers
from core.journal.answer_notes import AnswerNotes
from core.journal.judging import MIN_JUDGED_BYTES
from core.journal.pending_events import PendingEvents, prepared
from core.journal.pending_snapshot import PendingSnapshot
from core.journal.producers import Progress
from core.models import Budget, Caller, EventBatch, Receipt, SnapshotReceipt, SnapshotRequest
from core.postgres.errors import NoAnswerError, database_away
from core.refusal_log import RefusalLog, RefusedRequest
from core.rules.event_batch import check_count
from core.rules.snapshot import check_texts
from core.slices import InTurns

MAX_PACE_SECONDS: Final = 0.25
OPEN_STREAM_SECONDS: Final = 8.0  # its turn, a connection, and a lock that is waited for


class Ingestor:
    """Admits callers, judges their batches and snapshots, and has them made durable.

    The order of checks is that of docs/contract.md section 4. Every method raises
    :class:`IngestError`, and a stream's batches :class:`StreamError`; a client can cause no other
    error. Nothing is written then, unless the error says that it cannot be known.

    ``key_watch`` tells open streams when their key may be used no more.
    """

    def __init__(
        self,
        admission: Admission,
        authenticator: Authenticator,
        rate_limiter: RateLimiter,
        cells: Cells,
        refusals: RefusalLog,
        counters: Counters,
        clock: Clock,
    ) -> None:
        self._authenticator = authenticator
        self._rate_limiter = rate_limiter
        self._cells = cells
        self._refusals = refusals
        self._counters = counters
        self._clock = clock
        self._admission = admission
        self.key_watch = KeyWatch(authenticator)

    async def admit(
        self, authorization: str | None, *, was_refused: bool = False
    ) -> tuple[Caller, Budget]:
        """Begin a request in its turn: authenticate, check the plan and take a rate token.

        ``was_refused``: the last key on its connection was nobody's.
        """
        if was_refused and self.is_strangers(authorization):
            await self._admission.returning.begin(STRANGERS)
        try:
            digests = self._authenticator.digests_of(authorization)
        except IngestError:
            await self._admission.beginning.begin(STRANGERS)
            raise
        await self._admission.beginning.begin(self._authenticator.flow_of(digests))
        caller = await self._authenticator.identify(digests)
        try:
            self._authenticator.check_usable(caller)
            self._cells.of(caller).check()
        except IngestError as error:
            error.budget, error.caller = self._rate_limiter.budget(caller), caller
            raise
        try:
            budget = await self._rate_limiter.charge_everywhere(caller)
        except IngestError as error:
            error.caller = caller
            raise
        self._cells.of(caller).traffic.key_uses.note(caller)
        return caller, budget

    def is_strangers(self, authorization: str | None) -> bool:
        """Whether there is no key, or nobody is known to have or to have had it."""
        return self._authenticator.is_strangers(authorization)

    async def begin_unkeyed(self, units: int) -> None:
        """Begin a request without a key in its turn; it costs as much as ``units`` usual ones."""
        await self._admission.beginning.begin(UNKEYED, units)

    def hold(self, caller: Caller) -> Holding:
        """The memory of a body that arrives; for an adapter, until it hands the body over."""
        return Holding(self._admission.memory, caller.organization_id.int)

    def in_turns(self, caller: Caller) -> InTurns:
        """A function that does long work for the caller in slices, each in its turn."""
        return partial(self._admission.slices.run, caller.organization_id.int)

    async def begin_reading(self, caller: Caller) -> None:
        """Return when another piece of the caller's body may be read."""
        await self._admission.reading.begin(caller.organization_id.int)

    async def ingest(self, caller: Caller, batch: EventBatch) -> Receipt:
        """Store the batch of a single request; its accepted events are durable on return.

        Raises as :meth:`enqueue` and its future do, and ``internal_error`` if there is no room for
        the batch.
        """
        count, began_at = len(batch.events), self._clock.monotonic()
        check_count(count)
        memory = self.hold(caller)
        memory.grow(request_bytes(batch.size_bytes, count))
        try:
            if count < MIN_JUDGED_IN_TURN and batch.size_bytes < MIN_JUDGED_BYTES:
                request = PendingEvents(caller, batch, self._clock.now_us())
                answer = self._append(request, batch, began_at)
                del request
            else:
                if count >= MIN_JUDGED_IN_TURN:
                    await self._admission.judging.begin(caller.organization_id.int, count)
                batch = await prepared(batch, self.in_turns(caller))
                answer = self.enqueue(caller, batch, began_at)
            # The pending request has what is needed. Memory that is free before the commit is used
            # again while it is still in the processor's caches.
            del batch
            try:
                return await answer
            finally:
                # A failed answer holds its error, whose traceback holds this frame. With the answer
                # in the frame, all would stay in memory until the garbage collector looks.
                del answer
        finally:
            memory.release()

    def enqueue(
        self, caller: Caller, batch: EventBatch, began_at: float
    ) -> asyncio.Future[Receipt]:
        """Judge a batch and put it in line to be stored; the future is its answer.

        Batches are committed in the order of these calls. The method is no coroutine for that
        reason: a stream calls it for one batch after the other, and no await comes in between.
        ``began_at``: when the request was decoded, in monotonic seconds.

        The future fails as that of :meth:`Journal.enqueue` does. Raises ``batch_too_large`` or
        ``invalid_body`` for a batch that breaks a rule as a whole, and ``internal_error`` if the
        service is shutting down.
        """
        check_count(len(batch.events))
        request = PendingEvents.check(caller, batch, self._clock.now_us())
        return self._append(request, batch, began_at)

    def _append(
        self, request: PendingEvents, batch: EventBatch, began_at: float
    ) -> asyncio.Future[Receipt]:
        cell = self._cells.of(request.caller)
        request.notes = AnswerNotes(
            request.caller,
            batch,
            request.account,
            began_at,
            cell.rejections,
            cell.traffic,
            self._counters,
        )
        return cast("asyncio.Future[Receipt]", cell.journal.enqueue(request))

    async def ingest_snapshot(self, caller: Caller, wanted: SnapshotRequest) -> SnapshotReceipt:
        """Store a snapshot; it is durable when this returns."""
        cell, began_at = self._cells.of(caller), self._clock.monotonic()
        memory = self.hold(caller)
        memory.grow(request_bytes(wanted.size_bytes, 1))
        try:
            stored = await self.in_turns(caller)(check_texts(wanted.snapshot))
            request = PendingSnapshot.check(caller, wanted, stored, self._clock.now_us())
            receipt = await cell.journal.enqueue(request)
        except IngestError as error:
            cell.traffic.note_refusal(caller, error.code, 1, began_at)
            raise
        finally:
            memory.release()
        assert isinstance(receipt, SnapshotReceipt)
        cell.traffic.note_answer(caller, int(not receipt.replayed), 0, began_at)
        if not receipt.replayed:
            self._counters.accept_snapshot()
        return receipt

    def hold_stream(self, caller: Caller) -> Holding:
        """The place of a stream, to be released when its call is over.

        Raises ``internal_error``, transient, if the organization's share of places is used up.
        """
        places, flow = self._admission.open_streams, caller.organization_id.int
        if not places.try_take(flow, 1):
            raise unavailable("Too many streams are open. Close some of yours, or retry later.")
        return Holding.of(places, flow, 1)

    async def open_stream(self, caller: Caller, producer_id: str) -> Progress:
        """Begin a stream of a producer; an older stream of it can write no more.

        Raises ``invalid_body`` for the id, :class:`StreamError` if the app may have no more
        producers, and ``internal_error`` if the database does not answer.
        """
        producers.check_producer_id(producer_id)
        cell = self._cells.of(caller)
        opening = self._open(cell, producers.producer_key(caller, producer_id))
        try:
            return await cell.database.within(OPEN_STREAM_SECONDS, opening)
        except NoAnswerError as error:
            raise database_away() from error

    async def _open(self, cell: Cell, producer: producers.ProducerKey) -> Progress:
        # Openings that wait for locks must not have all of the connections.
        openings, flow = cell.stream_openings, producer.organization_id.int
        await openings.take(flow, 1)
        try:
            async with cell.database.connection() as db:
                return await app_producers.open_stream(db, producer, self._clock.now_us())
        finally:
            openings.give_back(flow, 1)

    async def admit_batch(
        self, authorization: str | None, events: int, message_bytes: int
    ) -> tuple[Caller, Holding]:
        """Let the next batch of a stream in: a rate token, room, and a turn to judge it.

        Returns the caller with the rights in force by then, and the room, to be released with the
        acknowledgement. The batch is to be decoded and enqueued at once.
        """
        caller = await self._pace(authorization)
        flow, amount = caller.organization_id.int, streamed_events(message_bytes, events)
        waited = await self._admission.streamed.take(flow, amount)
        room = Holding.of(self._admission.streamed, flow, amount)
        try:
            await self._admission.judging.begin(flow, 2 * events)
            if waited:
                caller = await self._authenticator.authenticate(authorization)
        except BaseException:
            room.release()
            raise
        return caller, room

    async def begin_ack(self, caller: Caller) -> None:
        """Return when the ack of a batch may be sent."""
        await self._admission.acking.begin(caller.organization_id.int)

    async def _pace(self, authorization: str | None) -> Caller:
        """Authenticate again and wait for a rate token; this paces a stream, batch by batch."""
        while True:
            caller = await self._authenticator.authenticate(authorization)
            cell = self._cells.of(caller)
            cell.check()
            try:
                await self._rate_limiter.charge_everywhere(caller)
            except IngestError as error:
                pause = error.retry_after_seconds or 0
            else:
                cell.traffic.key_uses.note(caller)
                return caller
            # Bounded, so that a key that is revoked meanwhile is noticed.
            await asyncio.sleep(min(pause, MAX_PACE_SECONDS))

    async def confirm(
        self, caller: Caller, authorization: str | None, admitted_at: float
    ) -> Caller:
        """The caller with the rights in force when its message is there; costs no token.

        A message can come slowly. ``admitted_at``: seconds, by the event loop.
        """
        if asyncio.get_running_loop().time() - admitted_at <= MAX_CALLER_AGE_SECONDS:
            return caller
        return await self._authenticator.authenticate(authorization)

    def note_refusal(
        self, error: IngestError, request: RefusedRequest, caller: Caller | None
    ) -> None:
        """Log, count and keep a refused request; adapters call it once for each.

        ``caller``: None if the request was not admitted. A batch whose every event was refused is
        counted and kept by its events, in :meth:`enqueue`.
        """
        caller = caller or error.caller
        self._refusals.note(error.code, request, caller)
        if caller is not None and error.rejected is None:
            self._cells.of(caller).rejections.note_request(caller, request.request_id, error)
