"""Rejections that operators can look up: what was refused of whose request, and why.

They are noted in memory and written every second, as the statistics are, so that a client sending
nonsense causes no writes of its own. A crash loses at most the last second of them, never data.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Final, NamedTuple
from uuid import UUID

from core import ids
from core.clock import Clock
from core.error_codes import ErrorCode
from core.errors import IngestError
from core.models import Caller, Rejection
from core.postgres.sessions import Connection

KEPT: Final = 1_000  # of each organization: its latest
# An organization may fill its share at once. More than so many a second are not written: they
# would be pushed out within a minute by equal ones.
NOTED_PER_SECOND: Final = 20.0
MAX_WAITING: Final = 20_000  # of all organizations, between two flushes
MAX_ORGANIZATIONS: Final = 10_000  # whose share is remembered; the others have a whole one
MAX_ITEM_CHARACTERS: Final = 4_096
# A flood of requests over the rate limit is counted, and not kept.
_NOT_KEPT: Final = ErrorCode.RATE_LIMITED

_PATH: Final = re.compile(r"(?:events\[\d+\]\.?)?([A-Za-z_][\w.\[\]]*)?: ")

# The JSON text of the item at an index.
Item = Callable[[int], str]


class _Row(NamedTuple):
    organization_id: UUID
    id: UUID
    request_id: str
    item_index: int | None  # None: the request as a whole
    code: str
    field: str | None
    message: str
    app_slug: str
    key_hint: str
    item: str | None


_ADD: Final = """
INSERT INTO rejections (
    organization_id, id, request_id, item_index, code, field, message, app_slug, key_hint, item)
SELECT * FROM unnest(%s::uuid[], %s::uuid[], %s::text[], %s::integer[], %s::text[], %s::text[],
    %s::text[], %s::text[], %s::text[], %s::text[])
"""

_TRIM: Final = """
DELETE FROM rejections AS old
USING unnest(%s::uuid[]) AS noted (organization_id)
WHERE old.organization_id = noted.organization_id AND old.id <= (
    SELECT id FROM rejections AS kept WHERE kept.organization_id = noted.organization_id
    ORDER BY id DESC OFFSET %s LIMIT 1)
"""


class RejectionLog:
    """Notes rejections, and writes each organization's latest.

    Every refusal but those of the rate limit is noted, as far as the organization's share goes;
    the statistics count all (core/journal/rejection_statistics.py).
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rows: list[_Row] = []
        # By organization: how many it may still note, and since when that holds.
        self._shares: dict[UUID, tuple[float, float]] = {}

    def note_request(self, caller: Caller, request_id: str, error: IngestError) -> None:
        """Note a request that was refused as a whole."""
        if error.code is not _NOT_KEPT and self._take(caller.organization_id, 1):
            its_id = ids.new(self._clock.now_us())
            self._note(caller, its_id, request_id, None, error.code, error.message, None)

    def note_items(
        self,
        caller: Caller,
        request_id: str,
        rejected: Iterable[Rejection],
        item: Item | None = None,
    ) -> None:
        """Note refused items; ``item`` if their content is to be kept, too."""
        listed = list(rejected)
        first_id = ids.first_of_batch(self._clock.now_us())
        noted = islice(listed, self._take(caller.organization_id, len(listed)))
        for its_id, one in enumerate(noted, first_id):
            content = None if item is None else item(one.index)[:MAX_ITEM_CHARACTERS]
            whose = (caller, UUID(int=its_id), request_id)
            self._note(*whose, one.index, one.code, one.message, content)

    def __bool__(self) -> bool:
        """Whether there is anything to write."""
        return bool(self._rows)

    def _take(self, organization_id: UUID, wanted: int) -> int:
        """The number of rejections that may be noted now, at most ``wanted``."""
        now = self._clock.monotonic()
        left, since = self._shares.pop(organization_id, (KEPT, now))
        left = min(KEPT, left + (now - since) * NOTED_PER_SECOND)
        taken = min(wanted, int(left), MAX_WAITING - len(self._rows))
        self._shares[organization_id] = (left - taken, now)
        if len(self._shares) > MAX_ORGANIZATIONS:
            del self._shares[next(iter(self._shares))]
        return taken

    def _note(
        self,
        caller: Caller,
        its_id: UUID,
        request_id: str,
        index: int | None,
        code: ErrorCode,
        message: str,
        item: str | None,
    ) -> None:
        path = _PATH.match(message)
        self._rows.append(
            _Row(
                caller.organization_id,
                its_id,
                request_id,
                index,
                code.value,
                path and path[1],
                message,
                caller.app_slug,
                caller.key_hint,
                item,
            )
        )

    async def flush(self, db: Connection) -> None:
        """Write what was noted, and delete what is older than the latest; kept if that fails."""
        rows, self._rows = self._rows, []
        if not rows:
            return
        try:
            await db.execute(_ADD, tuple(map(list, zip(*rows, strict=True))))
        except BaseException:
            self._rows = (rows + self._rows)[-MAX_WAITING:]
            raise
        await db.execute(_TRIM, (list({row.organization_id for row in rows}), KEPT))
