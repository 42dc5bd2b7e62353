"""The traffic of each app by the minute, and the last use of each key, for operators.

They are summed in memory and added to the database every second, so that no request waits for
them; it pays for a look-up and some additions, 1 us with the use of its key. A crash loses at most
that second, and an addition whose answer was lost may count twice: these are statistics, and no
quota goes by them.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Final, TypeAlias
from uuid import UUID

from msgspec import Struct

from core.clock import Clock
from core.error_codes import ErrorCode
from core.journal.key_uses import KeyUses
from core.models import Caller
from core.postgres.sessions import Connection
from core.timestamps import US_PER_MINUTE, to_datetime

log = logging.getLogger(__name__)

FLUSH_SECONDS: Final = 1.0
KEPT_MINUTES: Final = 48 * 60
MAX_SUMS: Final = 10_000  # of a cell: apps and minutes that are not written yet
MAX_WRITTEN: Final = 1_000  # rows a statement
MAX_CLEANED_AT_ONCE: Final = 10_000  # rows a statement

_ADD: Final = """
INSERT INTO traffic AS total (
    organization_id, minute, app_id, requests, accepted, rejected, milliseconds, slowest)
SELECT * FROM unnest(%s::uuid[], %s::timestamptz[], %s::uuid[], %s::bigint[], %s::bigint[],
    %s::bigint[], %s::double precision[], %s::double precision[])
ORDER BY 1, 2, 3
ON CONFLICT (organization_id, minute, app_id) DO UPDATE SET
    requests = total.requests + excluded.requests,
    accepted = total.accepted + excluded.accepted,
    rejected = total.rejected + excluded.rejected,
    milliseconds = total.milliseconds + excluded.milliseconds,
    slowest = GREATEST(total.slowest, excluded.slowest)
"""

_CLEAN: Final = """
DELETE FROM traffic WHERE ctid IN (
    SELECT ctid FROM traffic WHERE minute < %s LIMIT %s FOR UPDATE SKIP LOCKED)
"""

_AppMinute: TypeAlias = tuple[int, int]  # the app's id, and minutes since the epoch


class _Sums(Struct):
    organization_id: UUID
    app_id: UUID
    requests: int = 0
    accepted: int = 0
    rejected: int = 0
    milliseconds: float = 0.0
    slowest: float = 0.0

    def add(self, other: _Sums) -> None:
        self.requests += other.requests
        self.accepted += other.accepted
        self.rejected += other.rejected
        self.milliseconds += other.milliseconds
        self.slowest = max(self.slowest, other.slowest)


class Traffic:
    """Notes the traffic of a cell; :meth:`flush` writes it.

    ``key_uses`` are written with it. Of more apps than ``MAX_SUMS``, those that come last are left
    out, and the log tells of it.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sums: dict[_AppMinute, _Sums] = {}
        self._left_out = 0
        self.key_uses = KeyUses(clock)

    def __bool__(self) -> bool:
        """Whether there is anything to write."""
        return bool(self._sums) or bool(self.key_uses)

    def note_answer(self, caller: Caller, accepted: int, rejected: int, began_at: float) -> None:
        """Note a request, or a batch of a stream, that is answered now.

        ``began_at``: monotonic seconds.
        """
        app_minute = caller.app_id.int, self._clock.now_us() // US_PER_MINUTE
        sums = self._sums.get(app_minute)
        if sums is None:
            if len(self._sums) >= MAX_SUMS:
                self._left_out += 1
                return
            sums = self._sums[app_minute] = _Sums(caller.organization_id, caller.app_id)
        milliseconds = (self._clock.monotonic() - began_at) * 1_000
        sums.requests += 1
        sums.accepted += accepted
        sums.rejected += rejected
        sums.milliseconds += milliseconds
        if milliseconds > sums.slowest:
            sums.slowest = milliseconds

    def note_refusal(self, caller: Caller, code: ErrorCode, items: int, began_at: float) -> None:
        """Note a request that is refused now after it was judged: all of its items are rejected.

        A failure of the service is no traffic.
        """
        if code is not ErrorCode.INTERNAL_ERROR:
            self.note_answer(caller, 0, items, began_at)

    async def flush(self, db: Connection) -> None:
        """Write what was noted; what cannot be written is kept for the next time."""
        await self.key_uses.flush(db)
        if self._left_out:
            log.warning(
                "the traffic of %d requests is not in the statistics: there are more than %d apps",
                self._left_out,
                MAX_SUMS,
            )
            self._left_out = 0
        sums, self._sums = list(self._sums.items()), {}
        for first in range(0, len(sums), MAX_WRITTEN):
            try:
                await _add(db, sums[first : first + MAX_WRITTEN])
            except BaseException:
                self._put_back(sums[first:])
                raise

    def _put_back(self, sums: Sequence[tuple[_AppMinute, _Sums]]) -> None:
        for app_minute, earlier in sums:
            if (later := self._sums.get(app_minute)) is not None:
                later.add(earlier)
            elif len(self._sums) < MAX_SUMS:
                self._sums[app_minute] = earlier
            else:
                self._left_out += earlier.requests


async def _add(db: Connection, sums: Sequence[tuple[_AppMinute, _Sums]]) -> None:
    rows = [
        (
            one.organization_id,
            to_datetime(minute * US_PER_MINUTE),
            one.app_id,
            one.requests,
            one.accepted,
            one.rejected,
            one.milliseconds,
            one.slowest,
        )
        for (_, minute), one in sums
    ]
    await db.execute(_ADD, tuple(map(list, zip(*rows, strict=True))))


async def clean(db: Connection, now_us: int) -> int:
    """Delete minutes that are too old, at most a bounded number; returns how many."""
    last = to_datetime(now_us) - timedelta(minutes=KEPT_MINUTES)
    return (await db.execute(_CLEAN, (last, MAX_CLEANED_AT_ONCE))).rowcount
