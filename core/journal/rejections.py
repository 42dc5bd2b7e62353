"""What becomes of a rejection: it is counted for statistics, and kept for operators to look up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from core.clock import Clock
from core.errors import IngestError
from core.journal.quota import Account
from core.journal.rejected_items import item_json
from core.journal.rejection_log import RejectionLog
from core.journal.rejection_statistics import RejectionStatistics
from core.models import Caller, Events, Rejection
from core.postgres.sessions import Connection

FLUSH_SECONDS: Final = 1.0


class Rejections:
    """Notes rejections in memory; :meth:`flush` writes them.

    ``keep_items``: the content of refused items is kept, too.
    """

    def __init__(self, clock: Clock, *, keep_items: bool = False) -> None:
        self._clock = clock
        self._statistics = RejectionStatistics()
        self._log = RejectionLog(clock)
        self.keep_items = keep_items

    def note_request(self, caller: Caller, request_id: str, error: IngestError) -> None:
        """Note a request that was refused as a whole."""
        self._statistics.count_request(caller.organization_id, error.code, self._clock.now_us())
        self._log.note_request(caller, request_id, error)

    def note_items(
        self,
        caller: Caller,
        request_id: str,
        account: Account,
        rejected: Sequence[Rejection],
        events: Events | None,
    ) -> None:
        """Note refused items of a batch; ``events`` are the batch's if their content is kept."""
        self._statistics.count_events(account, rejected)
        self._log.note_items(
            caller, request_id, rejected, None if events is None else item_json(events)
        )

    def __bool__(self) -> bool:
        """Whether there is anything to write."""
        return bool(self._statistics) or bool(self._log)

    async def flush(self, db: Connection) -> None:
        """Write what was noted; what cannot be written is kept for the next time."""
        await self._statistics.flush(db)
        await self._log.flush(db)
