"""Statistics of rejected events and refused requests, by month and code, for operators.

They are counted in memory and added to the database every second, so that a client sending
nonsense causes no writes of its own. A crash loses at most the last second of counts, never data.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Final
from uuid import UUID

from core.error_codes import ErrorCode
from core.journal.quota import Account, account
from core.models import Rejection
from core.postgres.sessions import Connection

FLUSH_SECONDS: Final = 1.0
MAX_COUNTERS: Final = 10_000  # of a cell: organizations, months, codes between two flushes

_ADD: Final = """
INSERT INTO refusals AS total (organization_id, month, code, events, requests)
SELECT * FROM unnest(%s::uuid[], %s::date[], %s::text[], %s::bigint[], %s::bigint[])
ORDER BY 1, 2, 3
ON CONFLICT (organization_id, month, code) DO UPDATE SET
    events = total.events + excluded.events, requests = total.requests + excluded.requests
"""


class RejectionStatistics:
    """Counts rejected events, and requests that were refused as a whole."""

    def __init__(self) -> None:
        self._counts: defaultdict[tuple[Account, ErrorCode], list[int]] = defaultdict(
            lambda: [0, 0]
        )

    def __len__(self) -> int:  # of counters that are not written yet
        return len(self._counts)

    def count_events(self, of: Account, rejected: Iterable[Rejection]) -> None:
        """Add rejected events."""
        for rejection in rejected:
            self._add(of, rejection.code, 0)

    def count_request(self, organization_id: UUID, code: ErrorCode, now_us: int) -> None:
        """Add one refused request."""
        self._add(account(organization_id, now_us), code, 1)

    def _add(self, of: Account, code: ErrorCode, column: int) -> None:
        if len(self._counts) < MAX_COUNTERS or (of, code) in self._counts:
            self._counts[of, code][column] += 1

    async def flush(self, db: Connection) -> None:
        """Add the counts to the database; they are kept for the next time if that fails."""
        counts, self._counts = self._counts, defaultdict(lambda: [0, 0])
        if not counts:
            return
        try:
            await db.execute(
                _ADD,
                (
                    [of.organization_id for of, _ in counts],
                    [of.month for of, _ in counts],
                    [str(code) for _, code in counts],
                    [events for events, _ in counts.values()],
                    [requests for _, requests in counts.values()],
                ),
            )
        except BaseException:
            for key, (events, requests) in counts.items():
                self._counts[key][0] += events
                self._counts[key][1] += requests
            raise
