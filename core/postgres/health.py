"""The health of a database: whether events can be written to it now."""

from __future__ import annotations

from typing import Final

from core.postgres import partitions
from core.postgres.migrate import is_migrated
from core.postgres.sessions import Connection

_STATE: Final = """
SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'on',
    NOT has_table_privilege('events', 'INSERT'), to_regclass(%s) IS NULL
"""


async def write_problem(db: Connection, now_us: int) -> str | None:
    """The reason why no event can be written at this moment; None if one can."""
    if not await is_migrated(db):
        return "the database is not migrated"
    name = partitions.name_at(now_us)
    row = await (await db.execute(_STATE, (name,))).fetchone()
    assert row is not None
    is_standby, is_read_only, lacks_right, lacks_partition = row
    if is_standby:
        return "the database is a standby"
    if is_read_only:
        return "the database is read-only"
    if lacks_right:
        return "the service may not write to the database"
    if lacks_partition:
        return f"the database has no partition {name} for events of now"
    return None
