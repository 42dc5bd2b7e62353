"""The producers of an app: opened for a stream, held to a limit, forgotten when unused.

The usual opening is one statement. A new producer is counted first, in the transaction that makes
it: the lock of the count makes the limit exact (docs/contract.md section 10).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from core import limits
from core.error_codes import StreamReason
from core.errors import StreamError
from core.journal.producers import ProducerKey, Progress
from core.postgres.sessions import Connection
from core.timestamps import to_datetime

# A producer is in use as long as its stream is open, which is not noted anew.
MAX_STREAM_AGE: Final = timedelta(days=1)
MAX_APPS_AT_ONCE: Final = 1_000  # that one look finds producers to forget in

_REOPEN: Final = """
UPDATE producers SET epoch = epoch + 1, opened_at = %s
WHERE organization_id = %s AND app_id = %s AND producer_id = %s
RETURNING sequence, epoch, accepted, rejected
"""

# The row of the count is locked until the transaction ends, also for another process.
_COUNT: Final = """
INSERT INTO producer_counts AS counted (organization_id, app_id, producers) VALUES (%s, %s, 1)
ON CONFLICT (organization_id, app_id) DO UPDATE SET producers = counted.producers + 1
    WHERE counted.producers < %s
RETURNING producers
"""

_MAKE: Final = """
INSERT INTO producers (
    opened_at, organization_id, app_id, producer_id, sequence, accepted, rejected, epoch)
VALUES (%s, %s, %s, %s, 0, 0, 0, 1)
ON CONFLICT (organization_id, app_id, producer_id) DO NOTHING
RETURNING sequence, epoch, accepted, rejected
"""

_APPS_WITH_UNUSED: Final = """
SELECT DISTINCT organization_id, app_id FROM producers WHERE opened_at < %s LIMIT %s
"""
_LOCK_COUNT: Final = """
SELECT FROM producer_counts WHERE organization_id = %s AND app_id = %s FOR UPDATE
"""
_FORGET: Final = """
DELETE FROM producers WHERE organization_id = %s AND app_id = %s AND opened_at < %s
"""
# By a new snapshot, so that those are counted that were made until the lock was had. Counting again
# also corrects for a release without counts that was still running when they were introduced.
_RECOUNT: Final = """
UPDATE producer_counts AS counted SET producers = (
    SELECT count(*) FROM producers
    WHERE organization_id = counted.organization_id AND app_id = counted.app_id)
WHERE organization_id = %s AND app_id = %s
"""


class _MadeMeanwhileError(Exception):
    """Another stream has made the producer, so that it must not be counted again."""


async def open_stream(db: Connection, producer: ProducerKey, now_us: int) -> Progress:
    """Take the producer over for a new stream; returns how far it has come.

    Raises :class:`StreamError` if there is no such producer and its app may have no more.
    """
    values = (to_datetime(now_us), *producer)
    refusal: StreamError | None = None
    while True:
        row = await (await db.execute(_REOPEN, values)).fetchone()
        if row is not None:
            return Progress(*row)
        if refusal is not None:
            raise refusal
        try:
            async with db.transaction():
                return await _make(db, producer, values)
        except _MadeMeanwhileError:
            continue
        except StreamError as error:
            refusal = error  # unless it is one of those that have filled the app meanwhile


async def _make(db: Connection, producer: ProducerKey, values: Sequence[object]) -> Progress:
    """Count a new producer and insert it, in a transaction that holds its app's count."""
    counted = (producer.organization_id, producer.app_id, limits.MAX_APP_PRODUCERS)
    if await (await db.execute(_COUNT, counted)).fetchone() is None:
        raise StreamError(
            StreamReason.PRODUCER_LIMIT,
            f"The app has {limits.MAX_APP_PRODUCERS} producers, and may have no more. Open streams "
            "with producer ids that stay the same.",
        )
    row = await (await db.execute(_MAKE, values)).fetchone()
    if row is None:
        raise _MadeMeanwhileError
    return Progress(*row)


async def forget_unused(db: Connection, now_us: int) -> int:
    """Delete the producers that no stream has opened for long; returns how many.

    One transaction for each app, of a bounded number of apps; ``db`` is in autocommit mode. A
    producer that is deleted begins at 0 if it is opened again.
    """
    last = to_datetime(now_us) - timedelta(days=limits.PRODUCER_UNUSED_DAYS) - MAX_STREAM_AGE
    cursor = await db.execute(_APPS_WITH_UNUSED, (last, MAX_APPS_AT_ONCE))
    forgotten = 0
    for app in await cursor.fetchall():
        async with db.transaction():
            await db.execute(_LOCK_COUNT, app)
            deleted = (await db.execute(_FORGET, (*app, last))).rowcount
            await db.execute(_RECOUNT, app)
        forgotten += deleted
    return forgotten
