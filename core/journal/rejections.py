"""What becomes of a rejection: it is counted for statistics, and kept for operators to look up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from core.clock import Clock
from core.errors import IngestError
from core.journal.quota import Account
from core.journal.rejected_items import item_json
from core.journal.rejection_log import RejectionLog
from core.journal.rejection_statistics import RejectionStatistics
from core.models import Caller, EventBatch, Events, Rejection
from core.postgres.sessions import Connection

FLUSH_SECONDS: Final = 1.0

# Notes rejections of one batch.
Note = Callable[[Sequence[Rejection]], None]


class Rejections:
    """Notes rejections in memory; :meth:`flush` writes them.

    ``keep_items``: the content of refused items is kept, too.
    """

    def __init__(self, clock: Clock, *, keep_items: bool = False) -> None:
        self._clock = clock
        self._statistics = RejectionStatistics()
        self._log = RejectionLog(clock)
        self._keep_items = keep_items

    def note_request(self, caller: Caller, request_id: str, error: IngestError) -> None:
        """Note a request that was refused as a whole."""
        self._statistics.count_request(caller.organization_id, error.code, self._clock.now_us())
        self._log.note_request(caller, request_id, error)

    def of_batch(self, caller: Caller, batch: EventBatch, account: Account) -> Note:
        """A function that notes refused items of a batch.

        It holds the batch's events if their content is kept.
        """
        events = batch.events if self._keep_items else None
        return partial(self._note_items, caller, batch.request_id, account, events)

    def _note_items(
        self,
        caller: Caller,
        request_id: str,
        account: Account,
        events: Events | None,
        rejected: Sequence[Rejection],
    ) -> None:
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
