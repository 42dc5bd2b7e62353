"""An organization's events in blocks, in the order of their key, for work in short transactions.

Each block begins at the end of the last one. So one partition is read at a time, and the space of
rows that were deleted or changed is not read again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final
from uuid import UUID

from core.postgres.sessions import Connection

_BLOCK_ENDS: Final = """
SELECT id FROM events WHERE organization_id = %s AND id > %s
ORDER BY id OFFSET %s LIMIT 1
"""
_FIRST_ID: Final = UUID(int=0)
_LAST_ID: Final = UUID(int=2**128 - 1)


async def event_blocks(
    db: Connection, organization_id: UUID, size: int
) -> AsyncIterator[tuple[UUID, UUID]]:
    """The bounds of each block of so many events: above the first id, up to the second."""
    after = _FIRST_ID
    while after != _LAST_ID:
        values = (organization_id, after, size - 1)
        row = await (await db.execute(_BLOCK_ENDS, values)).fetchone()
        end = _LAST_ID if row is None else row[0]
        yield after, end
        after = end
