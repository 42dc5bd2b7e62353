"""Monthly partitions of the events: made ahead of time, dropped when retention ends.

There is no default partition, because it would be scanned whenever a month is added. So a month
should exist before it begins, and :func:`horizon_us` tells an alarm how many do. One that is
missing nevertheless, as after a clock was wrong, is made when an event finds none
(:func:`is_missing`).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

import psycopg
from psycopg import sql
from psycopg.errors import CheckViolation

from core import ids
from core.postgres.sessions import Connection
from core.timestamps import from_datetime, month_start

MONTHS_AHEAD: Final = 3
# Dropping needs an exclusive lock. While it waits for a reader, every writer waits behind it.
DROP_LOCK_MS: Final = 100
_NAME: Final = re.compile(r"events_(\d{4})_(\d{2})\Z")
_SHORT_WAIT: Final = f"SET LOCAL lock_timeout = {DROP_LOCK_MS}"
_ADVISORY_LOCK: Final = 7_227_002  # one process at a time changes the set of partitions

_PARTITIONS: Final = """
SELECT child.relname::text
FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid
WHERE inhparent = 'events'::regclass
"""
_MAKE: Final = "CREATE TABLE {0} (LIKE events INCLUDING ALL)"
_ATTACH: Final = "ALTER TABLE events ATTACH PARTITION {0} FOR VALUES FROM ({1}) TO ({2})"
_NOW: Final = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"


def name_at(now_us: int) -> str:
    """The name of the partition for events received at that moment."""
    return _name(month_start(now_us))


async def ensure_partitions(db: Connection, now_us: int) -> list[str]:
    """Make the partitions of this month and the next ones; returns the names of the new ones."""
    this_month = month_start(now_us)
    wanted = [_add_months(this_month, count) for count in range(MONTHS_AHEAD + 1)]
    existing = await _existing(db)
    if all(_name(month) in existing for month in wanted):
        return []
    created = []
    async with db.transaction():
        await db.execute("SELECT pg_advisory_xact_lock(%s)", (_ADVISORY_LOCK,))
        existing = await _existing(db)
        # Attached after it is made, which stops neither readers nor writers of the events.
        for month in wanted:
            if _name(month) in existing:
                continue
            values = (
                sql.Identifier(_name(month)),
                sql.Literal(str(ids.first_at(from_datetime(month)))),
                sql.Literal(str(ids.first_at(from_datetime(_add_months(month, 1))))),
            )
            await db.execute(sql.SQL(_MAKE).format(*values))
            await db.execute(sql.SQL(_ATTACH).format(*values))
            created.append(_name(month))
    return created


def is_missing(error: psycopg.Error) -> bool:
    """Whether an error says that there is no partition for an event."""
    if not isinstance(error, CheckViolation):
        return False
    return error.diag.constraint_name is None and error.diag.table_name == "events"


async def server_now_us(db: Connection) -> int:
    """The database's clock, in microseconds since the epoch."""
    row = await (await db.execute(_NOW)).fetchone()
    assert row is not None
    return int(row[0])


async def drop_expired(db: Connection, now_us: int, retention_months: int) -> list[str]:
    """Drop the events of months that ended ``retention_months`` full months ago or earlier.

    With 1, the current and the previous month are kept. Returns the names of the dropped
    partitions. Raises ``LockNotAvailable`` while somebody reads the events for long; those that are
    left can be dropped later.
    """
    oldest_kept = _add_months(month_start(now_us), -retention_months)
    dropped = []
    for name, month in sorted((await _existing(db)).items()):
        if month < oldest_kept:
            async with db.transaction():
                await db.execute("SELECT pg_advisory_xact_lock(%s)", (_ADVISORY_LOCK,))
                await db.execute(_SHORT_WAIT)
                await db.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(name)))
            dropped.append(name)
    return dropped


async def vacuum_and_checkpoint(db: Connection) -> None:
    """Do now the work that the server would do some time after many events were stored.

    A measurement that follows does not pay for it then. ``db`` is in autocommit mode, and its role
    is a superuser, as in an embedded database.
    """
    await db.execute("VACUUM (ANALYZE) events")
    await db.execute("CHECKPOINT")


async def horizon_us(db: Connection) -> int | None:
    """The end of the last partition, in microseconds since the epoch; None without partitions."""
    months = (await _existing(db)).values()
    return from_datetime(_add_months(max(months), 1)) if months else None


def _add_months(month: datetime, count: int) -> datetime:
    years, index = divmod(month.month - 1 + count, 12)
    return month.replace(year=month.year + years, month=index + 1)


def _name(month: datetime) -> str:
    return f"events_{month.year:04}_{month.month:02}"


async def _existing(db: Connection) -> dict[str, datetime]:
    names = [row[0] for row in await (await db.execute(_PARTITIONS)).fetchall()]
    return {
        name: datetime(int(match[1]), int(match[2]), 1, tzinfo=UTC)
        for name in names
        if (match := _NAME.match(name))
    }
