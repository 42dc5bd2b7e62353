"""Changes of workers that nothing remembered outlives: one is renamed, merged or erased.

Each organization counts them. A process remembers workers as of a count, and each transaction reads
the count under a lock that it shares with all others. A merge or an erasure waits for that lock
alone: every transaction that could know the workers from before is over then, and every later one
reads another count. So an outdated worker is never written, whatever a process has missed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from typing import Final
from uuid import UUID

from psycopg.errors import LockNotAvailable

from core.journal.pending import PendingRequest
from core.journal.workers import WorkerCache
from core.postgres.pipeline import Command, Statement
from core.postgres.sessions import Connection

# Organizations share these advisory locks, so that a transaction of many holds few: PostgreSQL has
# room for 64 a connection. They are below zero, those of core/journal/commit_lock.py are not.
MAX_LOCKS: Final = 32
# Transactions that come meanwhile wait behind the one that wants the lock alone. After every ten
# tries it waits for longer, as where all transactions are long.
ALONE_LOCK_MS: Final = 100
MAX_ALONE_LOCK_MS: Final = 1_000
MAX_ALONE_TRIES: Final = 100
ALONE_PAUSE_SECONDS: Final = 0.1
ALONE_MS: Final = 2_000  # for each statement under the lock, and between two of them

# Both with a row of the cell, so that Citus asks on the node that writes: through whatever node a
# transaction comes, it meets the one that is alone.
_SHARE: Final = Statement(
    "share_workers",
    "bigint[], uuid[]",
    """
SELECT pg_advisory_xact_lock_shared(lock) FROM unnest($1) AS lock
WHERE EXISTS (SELECT FROM organizations WHERE id = ANY ($2))
""",
)
_TAKE: Final = "SELECT pg_advisory_xact_lock(%s) FROM organizations WHERE id = %s"
_SHORT_WAIT: Final = "SELECT set_config('lock_timeout', %s, true)"
_BOUND: Final = (
    f"SET LOCAL lock_timeout = {ALONE_MS}",
    f"SET LOCAL statement_timeout = {ALONE_MS}",
    f"SET LOCAL idle_in_transaction_session_timeout = {ALONE_MS}",
)
_COUNT: Final = "UPDATE organizations SET worker_changes = worker_changes + 1 WHERE id = %s"


class WorkersChangedError(Exception):
    """A transaction has recalled workers that were changed since; nothing was written."""


class RecalledWorkers:
    """The counts of changes as of which a transaction has recalled the workers it knows.

    ``recalled`` are these counts. ``lock`` is to run before the counts are read. ``changes`` are
    those that were read.
    """

    def __init__(self, cache: WorkerCache, organization_ids: Collection[UUID]) -> None:
        self._cache = cache
        self.recalled = {one: cache.changes(one) for one in organization_ids}
        self.changes: Mapping[UUID, int] = {}
        locks = sorted({_lock_of(one) for one in organization_ids})
        self.lock = Command(_SHARE, _array(locks), _array(organization_ids)) if locks else None

    def are_current(
        self, changes: Mapping[UUID, int], requests: Collection[PendingRequest]
    ) -> bool:
        """Whether no worker that a request has recalled was changed since.

        The cache forgets those that were, and the next attempt recalls nobody of the organization:
        it succeeds however often workers are changed.
        """
        self.changes = changes
        outdated = {
            organization_id: count
            for organization_id, count in changes.items()
            if count != self.recalled[organization_id]
        }
        if outdated:
            self._cache.renew(outdated)
        return not any(
            any(request.workers)
            for request in requests
            if request.caller.organization_id in outdated
        )


def _array(values: Iterable[object]) -> str:
    return f"{{{','.join(map(str, values))}}}"


def _lock_of(organization_id: UUID) -> int:
    return -1 - organization_id.int % MAX_LOCKS


async def count(db: Connection, organization_id: UUID) -> None:
    """Have every later transaction look up the organization's workers anew."""
    await db.execute(_COUNT, (organization_id,))


@contextlib.asynccontextmanager
async def alone(db: Connection, organization_id: UUID) -> AsyncIterator[None]:
    """A transaction beside which none writes for the organization, and that is counted.

    It is tried again if the transactions before it take long, so that others wait for a moment
    only; after ``MAX_ALONE_TRIES`` raises :class:`LockNotAvailable`. Its statements must be short.
    """
    async with contextlib.AsyncExitStack() as stack:
        for tried in range(1, MAX_ALONE_TRIES + 1):
            wait_ms = min(ALONE_LOCK_MS * (1 + tried // 10), MAX_ALONE_LOCK_MS)
            try:
                await stack.enter_async_context(_locked(db, organization_id, wait_ms))
                break
            except LockNotAvailable:
                if tried == MAX_ALONE_TRIES:
                    raise
            await asyncio.sleep(ALONE_PAUSE_SECONDS)
        for bound in _BOUND:
            await db.execute(bound.encode())
        await count(db, organization_id)
        yield


@contextlib.asynccontextmanager
async def _locked(db: Connection, organization_id: UUID, wait_ms: int) -> AsyncIterator[None]:
    async with db.transaction():
        await db.execute(_SHORT_WAIT, (f"{wait_ms}ms",))
        await db.execute(_TAKE, (_lock_of(organization_id), organization_id))
        yield
