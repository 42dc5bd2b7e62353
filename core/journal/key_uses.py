"""The last use of each API key, for operators: whether somebody still needs it.

A use is noted in memory, and written with the traffic (core/journal/traffic.py).
"""

from __future__ import annotations

import itertools
from typing import Final
from uuid import UUID

from core.clock import Clock
from core.models import Caller
from core.postgres.sessions import Connection
from core.timestamps import to_datetime

EXACT_SECONDS: Final = 60.0  # a key that is used all the time is written once in so long
MAX_KEYS: Final = 20_000  # of a cell; beyond it uses are written more often, or not noted
MAX_WRITTEN: Final = 1_000  # rows a statement
MAX_CLEANED_AT_ONCE: Final = 10_000  # rows a statement

_ADD: Final = """
INSERT INTO key_uses AS known (organization_id, key_id, used_at)
SELECT * FROM unnest(%s::uuid[], %s::uuid[], %s::timestamptz[])
ORDER BY 1, 2
ON CONFLICT (organization_id, key_id) DO UPDATE SET
    used_at = GREATEST(known.used_at, excluded.used_at)
"""

# A use that was written after its key was removed.
_CLEAN: Final = """
DELETE FROM key_uses WHERE ctid IN (
    SELECT used.ctid FROM key_uses AS used WHERE NOT EXISTS (
        SELECT FROM api_keys
        WHERE api_keys.organization_id = used.organization_id AND api_keys.id = used.key_id)
    LIMIT %s)
"""


class KeyUses:
    """Notes when keys are used; :meth:`flush` writes it.

    The use that is written is at most ``EXACT_SECONDS`` older than the last one.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due: dict[int, float] = {}  # by key: monotonic seconds when the next one is written
        self._uses: dict[tuple[UUID, UUID], int] = {}  # by organization and key

    def __bool__(self) -> bool:
        """Whether there is anything to write."""
        return bool(self._uses)

    def note(self, caller: Caller) -> None:
        """Note that a request with the caller's key was admitted."""
        key, now = caller.key_id.int, self._clock.monotonic()
        if now < self._due.get(key, now) or len(self._uses) >= MAX_KEYS:
            return
        self._uses[caller.organization_id, caller.key_id] = self._clock.now_us()
        self._due.pop(key, None)  # so that the key that is written next is the first
        if len(self._due) >= MAX_KEYS:
            del self._due[next(iter(self._due))]
        self._due[key] = now + EXACT_SECONDS

    async def flush(self, db: Connection) -> None:
        """Write the uses; those that cannot be written are kept for the next time."""
        uses, self._uses = list(self._uses.items()), {}
        for first in range(0, len(uses), MAX_WRITTEN):
            rows = [(*key, to_datetime(us)) for key, us in uses[first : first + MAX_WRITTEN]]
            try:
                await db.execute(_ADD, tuple(map(list, zip(*rows, strict=True))))
            except BaseException:
                kept = dict(uses[first:]) | self._uses
                self._uses = dict(itertools.islice(kept.items(), MAX_KEYS))
                raise


async def clean(db: Connection) -> int:
    """Delete the uses of removed keys, at most a bounded number; returns how many."""
    return (await db.execute(_CLEAN, (MAX_CLEANED_AT_ONCE,))).rowcount
