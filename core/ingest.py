"""The one road every batch takes, whatever protocol it came by."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from core import limits
from core.access.authentication import Authenticator
from core.access.long_steps import MAX_WAITING_STEPS, MIN_LONG_EVENTS, LongSteps
from core.access.rate_limits import RateLimiter
from core.clock import Clock
from core.counters import Counters
from core.error_codes import ErrorCode
from core.errors import IngestError
from core.journal import idempotency, producers
from core.journal.held_requests import overloaded
from core.journal.journal import Journal
from core.journal.pending import PendingEvents, PendingSnapshot
from core.journal.producers import Progress
from core.journal.quota import Account
from core.journal.rejection_statistics import RejectionStatistics
from core.models import (
    Budget,
    Caller,
    EventBatch,
    Receipt,
    Rejection,
    SnapshotReceipt,
    SnapshotRequest,
)
from core.postgres.database import Database
from core.postgres.errors import NoAnswerError, database_away

MAX_TURN_PAUSE_SECONDS: Final = 0.25
OPEN_STREAM_SECONDS: Final = 8.0  # a look-up of a connection, and a lock that is waited for


def check_count(events: int) -> None:
    """Raises ``batch_too_large`` or ``invalid_body`` if a batch may not have so many events."""
    if events > limits.MAX_BATCH_EVENTS:
        raise IngestError(
            ErrorCode.BATCH_TOO_LARGE,
            f"events: {events} are too many for one batch; send at most {limits.MAX_BATCH_EVENTS}",
        )
    if not events:
        raise IngestError(ErrorCode.INVALID_BODY, "events: must hold at least one event")


class Ingestor:
    """Admits callers, judges what they send and has it made durable.

    The order of checks is that of contract section 4. Every method raises :class:`IngestError`
    and nothing else that a client could cause; whoever gets one knows that nothing was written.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        rate_limiter: RateLimiter,
        journal: Journal,
        refusals: RejectionStatistics,
        counters: Counters,
        database: Database,
        clock: Clock,
    ) -> None:
        self._database = database
        self._authenticator = authenticator
        self._rate_limiter = rate_limiter
        self._journal = journal
        self._refusals = refusals
        self._counters = counters
        self._clock = clock
        self._long_steps = LongSteps()

    async def admit(self, authorization: str | None) -> tuple[Caller, Budget]:
        """Authenticate, check the plan and take a rate token: the start of every request."""
        caller = await self._authenticator.identify(authorization)
        try:
            self._authenticator.check_usable(caller)
        except IngestError as error:
            error.budget = self._rate_limiter.budget(caller)
            raise
        try:
            return caller, self._rate_limiter.charge(caller)
        except IngestError as error:
            self.note_refusal(caller, error)
            raise

    async def ingest(self, caller: Caller, batch: EventBatch) -> Receipt:
        """Store a batch; what of it was accepted is durable when this returns."""
        count = len(batch.events)
        check_count(count)
        if batch.idempotency_key is not None:
            idempotency.check_key(batch.idempotency_key)
        # Those of streams were let in by begin_reading.
        if count >= MIN_LONG_EVENTS and not batch.streamed:
            if self._long_steps.waiting >= MAX_WAITING_STEPS:
                raise overloaded()
            await self._long_steps.begin(count)
        draft = PendingEvents.check(caller, batch, self._clock.now_us())
        # The draft has what is needed. Memory that is free before the commit is used again while it
        # is still in the processor's caches.
        del batch
        try:
            if not draft.slots and draft.claim is None and not draft.streamed:
                raise draft.refusal()
            receipt = await self._journal.commit(draft)
        except IngestError as error:
            self._count_rejected(draft.account, error.rejected)
            raise
        assert isinstance(receipt, Receipt)
        if not (receipt.replayed or receipt.duplicate):
            self._counters.accept(receipt.accepted)
            self._count_rejected(draft.account, receipt.rejected)
        return receipt

    async def ingest_snapshot(self, caller: Caller, request: SnapshotRequest) -> SnapshotReceipt:
        """Store a snapshot; it is durable when this returns."""
        if request.idempotency_key is not None:
            idempotency.check_key(request.idempotency_key)
        draft = PendingSnapshot.check(caller, request, self._clock.now_us())
        receipt = await self._journal.commit(draft)
        assert isinstance(receipt, SnapshotReceipt)
        if not receipt.replayed:
            self._counters.accept_snapshot()
        return receipt

    async def open_stream(self, caller: Caller, producer_id: str) -> Progress:
        """Begin a stream in the name of a producer, ending what an older stream may write."""
        producers.check_producer_id(producer_id)
        opening = self._open(producers.key(caller, producer_id))
        try:
            return await self._database.within(OPEN_STREAM_SECONDS, opening)
        except NoAnswerError as error:
            raise database_away() from error

    async def _open(self, producer: producers.ProducerKey) -> Progress:
        async with self._database.connection() as db:
            return await producers.open_stream(db, producer, self._clock.now_us())

    async def begin_reading(self, events: int) -> None:
        """Wait until another batch of streams is wanted, and then for a turn to read it in.

        It is judged, by :meth:`ingest`, in the next turn, while it is in the processor's caches.
        """
        await self._journal.until_wanted()
        await self._long_steps.begin(2 * events)

    async def await_turn(self, authorization: str | None) -> Caller:
        """Authenticate again and wait for a rate token: how a stream is paced, batch by batch."""
        while True:
            caller = await self._authenticator.authenticate(authorization)
            try:
                self._rate_limiter.charge(caller)
                return caller
            except IngestError as error:
                pause = error.retry_after_seconds or 0
            # Bounded, so that a key that is revoked meanwhile is noticed.
            await asyncio.sleep(min(pause, MAX_TURN_PAUSE_SECONDS))

    async def authenticate(self, authorization: str | None) -> Caller:
        """Whether the credential is still good; costs no token."""
        return await self._authenticator.authenticate(authorization)

    def note_refusal(self, caller: Caller, error: IngestError) -> None:
        """Count a refused request in the organization's statistics; adapters call it once each.

        A batch whose every event was refused is counted by its events, in :meth:`ingest`.
        """
        if error.rejected is None:
            self._refusals.count_request(caller.organization_id, error.code, self._clock.now_us())

    def _count_rejected(self, account: Account, rejected: Sequence[Rejection] | None) -> None:
        if rejected:
            self._refusals.count_events(account, rejected)
            self._counters.reject(rejected)
