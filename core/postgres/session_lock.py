"""The lock that a session holds as long as it lives, for others to ask whether it does.

Whoever gets the lock later knows that the session has ended, and whatever it had begun with it.
"""

from __future__ import annotations

import secrets
from typing import Final
from weakref import WeakKeyDictionary

from core.postgres.sessions import SESSION_SECONDS, Connection, cut_after

# Advisory locks have 64 bits with a sign. The others of the service are small numbers.
LOCK_BITS: Final = 63

# Not where Citus is loaded: a node can pass a transaction on to another one, which may still be at
# it when the session has ended.
_TAKE: Final = """
SELECT pg_catalog.pg_advisory_lock(%s)
WHERE pg_catalog.current_setting('citus.shard_count', true) IS NULL
"""

_held: Final[WeakKeyDictionary[Connection, int]] = WeakKeyDictionary()


def new_lock() -> int:
    """An advisory lock that nobody else has."""
    return secrets.randbits(LOCK_BITS)


async def hold(db: Connection) -> None:
    """Have the session take a lock of its own, for good; it is lost after ``SESSION_SECONDS``."""
    lock = new_lock()
    with cut_after(db, SESSION_SECONDS):
        cursor = await db.execute(_TAKE, (lock,), prepare=False)
    if await cursor.fetchone() is not None:
        _held[db] = lock


def held_by(db: Connection) -> int | None:
    """The session's lock; None if it has none."""
    return _held.get(db)
