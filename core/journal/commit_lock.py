"""The lock that a transaction holds until it is over, for others to ask whether it is.

A transaction takes it with its first answer, before it commits, on the node that writes; one that
is sent whole has the lock of its session (core/postgres/session_lock.py). Whoever gets it later,
through whatever server, comes after the transaction's end. Ids of transactions would not do: each
node has its own, and after a crash one can be given again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple
from uuid import UUID

from psycopg.errors import LockNotAvailable

from core.postgres.session_lock import new_lock
from core.postgres.sessions import Connection

# With rows of the cell, so that Citus asks on the node that wrote.
_TAKE: Final = """
SELECT pg_advisory_xact_lock(%s) FROM organizations WHERE id = ANY (%s) LIMIT 1
"""


class CommitLock(NamedTuple):
    """A random advisory lock, and the organizations by which its node is found."""

    id: int
    organization_ids: list[UUID]

    @classmethod
    def of(cls, organization_ids: Iterable[UUID]) -> CommitLock:
        """A new lock for a transaction of these organizations."""
        return cls(new_lock(), list(organization_ids))


async def is_free(db: Connection, lock: CommitLock) -> bool:
    """Whether nobody holds the lock any more: what its transaction wrote can be seen, if anything.

    Waits for it as long as the session waits for locks; ``db`` is in autocommit mode. False as well
    if the organizations are gone, as nothing tells then.
    """
    try:
        cursor = await db.execute(_TAKE, (lock.id, lock.organization_ids))
    except LockNotAvailable:
        return False
    return await cursor.fetchone() is not None
