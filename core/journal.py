"""The journal: where what was accepted becomes durable, and the only writer of events.

Whatever waits, from all requests and streams of the process, is committed together: one claim of
idempotency keys, one look-up of workers, one charge of quotas, one COPY, one COMMIT. There is no
timer: the next group is whatever came while the last one committed. Every member of a group is
answered after its own durable commit, and judged as if it had been alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import Final
from uuid import UUID

import psycopg
from psycopg.errors import LockNotAvailable

from core import idempotency, producers
from core.clock import Clock
from core.database import (
    Connection,
    Database,
    database_away,
    is_connection_loss,
    is_passing,
    is_transient,
    one_line,
)
from core.drafts import Draft, Outcome
from core.errors import ErrorCode, IngestError, StreamError, UnknownFateError, unavailable
from core.group import Group
from core.workers import WorkerCache

log = logging.getLogger(__name__)

MAX_GROUP_EVENTS: Final = 5_000
MAX_GROUP_DRAFTS: Final = 500
MAX_WAITING_DRAFTS: Final = 2_000
MAX_WAITING_BYTES: Final = 64 * 1_048_576
# Clients give up after 15 seconds; whoever cannot be started by then is told so before.
MAX_WAIT_SECONDS: Final = 6.0
MAX_ATTEMPTS: Final = 3
MAX_ATTEMPT_SECONDS: Final = 5.0  # no new attempt begins after this
RETRY_PAUSE_SECONDS: Final = 0.1
SETTLE_SECONDS: Final = 10.0
SETTLE_PAUSE_SECONDS: Final = 0.2


class Journal:
    """Commits drafts in groups. :meth:`run` is its one writing task."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._cache = WorkerCache()
        self._waiting: deque[Draft] = deque()
        self._waiting_bytes = 0
        self._arrived = asyncio.Event()
        self._closing = False

    async def commit(self, draft: Draft) -> Outcome:
        """Wait for the draft's durable commit and return its receipt.

        Raises :class:`IngestError`: what the database decided (``worker_not_found``,
        ``quota_exceeded``, a used idempotency key), or ``internal_error``; :class:`StreamError` for
        a batch out of its sequence. A draft that is being written is waited for, so an error means
        that nothing is stored, except the one that says it cannot be known.
        """
        if self._closing:
            raise unavailable("The service is shutting down. Retry shortly.")
        if (
            len(self._waiting) >= MAX_WAITING_DRAFTS
            or self._waiting_bytes + draft.size_bytes > MAX_WAITING_BYTES
        ):
            raise unavailable("The service is overloaded. Retry shortly.")
        draft.answer = asyncio.get_running_loop().create_future()
        # Whoever waits may go away before the answer; then nobody retrieves its exception.
        draft.answer.add_done_callback(lambda answer: answer.cancelled() or answer.exception())
        self._waiting.append(draft)
        self._waiting_bytes += draft.size_bytes
        self._arrived.set()
        try:
            async with asyncio.timeout(MAX_WAIT_SECONDS):
                return await asyncio.shield(draft.answer)
        except TimeoutError:
            if not draft.started:
                draft.answer.cancel()  # the writer passes it over
                raise unavailable("The service is overloaded. Retry shortly.") from None
        except asyncio.CancelledError:
            if not draft.started:
                draft.answer.cancel()
            raise
        return await draft.answer

    async def run(self) -> None:
        """Commit what waits until :meth:`close` was called and nothing waits any more."""
        while True:
            if not self._waiting:
                if self._closing:
                    return
                self._arrived.clear()
                await self._arrived.wait()
                continue
            group = self._take_group()
            if group:
                await self._commit_group(group)

    def close(self) -> None:
        """Refuse new drafts; :meth:`run` ends after those that wait."""
        self._closing = True
        self._arrived.set()

    def _take_group(self) -> list[Draft]:
        group: list[Draft] = []
        claimed: set[idempotency.Scope] = set()
        later: list[Draft] = []
        events = 0
        while self._waiting and len(group) < MAX_GROUP_DRAFTS:
            draft = self._waiting[0]
            if group and events + len(draft.slots) > MAX_GROUP_EVENTS:
                break
            self._waiting.popleft()
            self._waiting_bytes -= draft.size_bytes
            if draft.answer.done():
                continue
            if draft.claim is not None:
                # The second of two equal keys replays the first, which must have committed.
                if draft.claim.scope in claimed:
                    later.append(draft)
                    continue
                claimed.add(draft.claim.scope)
            draft.started = True
            events += len(draft.slots)
            group.append(draft)
        self._waiting.extendleft(reversed(later))
        self._waiting_bytes += sum(draft.size_bytes for draft in later)
        return group

    async def _commit_group(self, group: Sequence[Draft]) -> Exception | None:
        """Write a group and answer its members; returns the error if it could not be written."""
        try:
            outcomes = await self._attempt(group)
        except Exception as error:
            alone = len(group) == 1
            if alone or is_connection_loss(error) or isinstance(error, UnknownFateError):
                self._fail(group, error)
                return error
            # One member spoils the group and the database does not say which: each alone.
            log.error("a group of %d failed, trying one by one: %s", len(group), one_line(error))
            for draft in group:
                draft.started = False  # nothing is written: who gives up before its turn may
            await self._commit_one_by_one(group)
            return None
        for draft, outcome in zip(group, outcomes, strict=True):
            if draft.answer.done():
                continue
            if isinstance(outcome, IngestError | StreamError):
                draft.answer.set_exception(outcome)
            else:
                draft.answer.set_result(outcome)
        return None

    async def _commit_one_by_one(self, group: Sequence[Draft]) -> None:
        # Whoever meets a lock that is not given up tells the others of its organization.
        locked: dict[UUID, Exception] = {}
        for draft in group:
            if draft.answer.done():
                continue
            draft.started = True
            organization_id = draft.caller.organization_id
            if organization_id in locked:
                self._fail([draft], locked[organization_id])
            elif isinstance(error := await self._commit_group([draft]), LockNotAvailable):
                locked[organization_id] = error

    def _fail(self, group: Sequence[Draft], error: Exception) -> None:
        if is_connection_loss(error):
            log.error("%d drafts were not written: %s", len(group), one_line(error))
        else:
            names = ", ".join(draft.request_id for draft in group)
            log.error("writing failed for %s", names, exc_info=error)
        for draft in group:
            if not draft.answer.done():
                draft.answer.set_exception(_answer_to(error))

    async def _attempt(self, group: Sequence[Draft]) -> list[Outcome | IngestError | StreamError]:
        last = self._clock.monotonic() + MAX_ATTEMPT_SECONDS
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                return await self._transact(group)
            except psycopg.Error as error:
                tired = attempt == MAX_ATTEMPTS or self._clock.monotonic() > last
                if tired or not is_transient(error):
                    raise
                log.warning("writing a group is tried again: %s", one_line(error))
                if is_connection_loss(error):
                    await self._database.discard_stale()
                await asyncio.sleep(RETRY_PAUSE_SECONDS * attempt)
        raise AssertionError("unreachable")

    async def _transact(self, drafts: Sequence[Draft]) -> list[Outcome | IngestError | StreamError]:
        group = Group(drafts, self._cache, self._clock.now_us())
        outcomes: list[Outcome | IngestError | StreamError] = []
        try:
            async with self._database.raw_connection() as db, db.transaction():
                await group.write(db)
                # Here, for whatever failed after the commit would have the group written again.
                outcomes = [draft.outcome() for draft in drafts]
        except psycopg.Error as error:
            # Lost while committing: only the database knows. Not known is not "not written".
            if not (group.written and is_connection_loss(error)):
                raise
            if not await self._committed(group):
                raise
        self._cache.remember(group.resolved)
        return outcomes

    async def _committed(self, group: Group) -> bool:
        """Whether a transaction whose COMMIT got no answer took effect.

        Raises :class:`UnknownFateError` when the database does not tell in time.
        """
        deadline = self._clock.monotonic() + SETTLE_SECONDS
        while True:
            try:
                async with self._database.raw_connection() as db:
                    if await _has_ended(db, group.transaction_id):
                        committed = await _is_there(db, group)
                        log.warning("a commit got no answer; it took effect: %s", committed)
                        return committed
            except psycopg.Error as error:
                log.warning("cannot ask whether a commit took effect: %s", one_line(error))
                await self._database.discard_stale()
            if self._clock.monotonic() > deadline:
                raise UnknownFateError("whether a commit took effect stays unknown")
            await asyncio.sleep(SETTLE_PAUSE_SECONDS)


_STATUS: Final = "SELECT pg_xact_status(%s::xid8)"
_WITNESS: Final = """
SELECT EXISTS (SELECT FROM events WHERE organization_id = %(org)s AND id = %(id)s)
    OR EXISTS (SELECT FROM snapshot_history WHERE organization_id = %(org)s AND id = %(id)s)
"""


async def _has_ended(db: Connection, transaction_id: str | None) -> bool:
    """Whether a transaction is over, one way or the other."""
    try:
        row = await (await db.execute(_STATUS, (transaction_id,))).fetchone()
    except psycopg.DataError:
        return True  # an id of the future: the server crashed before it had written of it
    return row is None or row[0] != "in progress"


async def _is_there(db: Connection, group: Group) -> bool:
    """Whether what a group wrote is stored.

    The status of the transaction alone would not do: after a crash its id can be given again. A
    group without a row may have advanced producers, by batches of which everything was rejected;
    written again, those would be duplicates, and their rejections lost.
    """
    if group.witness is None:
        return await producers.have_reached(db, group.advanced)
    organization_id, row_id = group.witness
    cursor = await db.execute(_WITNESS, {"org": organization_id, "id": row_id})
    row = await cursor.fetchone()
    return bool(row and row[0])


def _answer_to(error: Exception) -> IngestError:
    """What a client is told of an error that is not its own."""
    if isinstance(error, UnknownFateError):
        return unavailable(
            "The service lost its storage while writing: this may or may not be stored. Retry with "
            "the same Idempotency-Key; a producer opens its stream again, which tells how far it "
            "has come."
        )
    if is_passing(error):
        return database_away()
    return IngestError(
        ErrorCode.INTERNAL_ERROR,
        "The service failed unexpectedly. Nothing was written. Retry with backoff.",
    )
