"""Producers as operators list and forget them; streams open them in core/journal/app_producers.py.

A producer that is forgotten begins anew: batches that are sent again after it are stored twice.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from msgspec import Struct

from core import ids, limits
from core.admin import checks
from core.admin.cell_sessions import CellSession
from core.admin.errors import AdministrationError, NotFoundError
from core.journal.app_producers import MAX_STREAM_AGE
from core.postgres.audit import Change
from core.postgres.sessions import Connection
from core.timestamps import to_datetime

UNUSED: Final = timedelta(days=limits.PRODUCER_UNUSED_DAYS)


class Producer(Struct, frozen=True):
    """A producer, and how far it has come. ``opened_at``: when a stream was last opened for it."""

    app_id: UUID
    app_slug: str
    producer_id: str
    sequence: int
    accepted: int
    rejected: int
    opened_at: datetime

    @property
    def expires_at(self) -> datetime:
        """The time from which it may be forgotten, unless a stream is opened before."""
        return self.opened_at + UNUSED + MAX_STREAM_AGE


# Those that were forgotten, or may be, are left out.
_SELECT: Final = """
SELECT app_id, slug, producer_id, sequence, accepted, rejected, opened_at
FROM producers
JOIN apps ON apps.organization_id = producers.organization_id AND apps.id = app_id
WHERE producers.organization_id = %(organization)s
    AND (%(app)s::uuid IS NULL OR app_id = %(app)s)
    AND (%(producer)s::text IS NULL OR producer_id = %(producer)s)
    AND opened_at > %(since)s
ORDER BY opened_at DESC, slug, producer_id
LIMIT %(limit)s
"""


async def latest(
    db: Connection, organization_id: UUID, app_id: UUID | None, now_us: int, limit: int
) -> list[Producer]:
    """The producers that were opened last; of one app, if one is given."""
    return await _select(db, organization_id, app_id, None, now_us, limit)


async def find(
    db: Connection, organization_id: UUID, app_id: UUID | None, producer_id: str, now_us: int
) -> Producer:
    """The producer of that id. NotFoundError if there is none, or if several apps have one."""
    text = checks.storable(producer_id)
    found = [] if not text else await _select(db, organization_id, app_id, text, now_us, None)
    if len(found) > 1:
        slugs = ", ".join(sorted(one.app_slug for one in found))
        raise NotFoundError(f"several apps have a producer {producer_id!r}, say which: {slugs}")
    if not found:
        raise NotFoundError(
            f"there is no producer {producer_id!r}: `wepeople-ingest producer list` shows those "
            "there are"
        )
    return found[0]


async def _select(
    db: Connection,
    organization_id: UUID,
    app_id: UUID | None,
    producer_id: str | None,
    now_us: int,
    limit: int | None,
) -> list[Producer]:
    values = {
        "organization": organization_id,
        "app": app_id,
        "producer": producer_id,
        "since": to_datetime(now_us) - UNUSED,
        "limit": limit,
    }
    return [Producer(*row) for row in await (await db.execute(_SELECT, values)).fetchall()]


# The row stays until no stream can be open that was opened before, and is then deleted as one that
# is not used: a new one would have the epoch of such a stream, which could write beside it.
_FORGET: Final = """
UPDATE producers SET sequence = 0, accepted = 0, rejected = 0, epoch = epoch + 1,
    opened_at = opened_at - %(unused)s
WHERE organization_id = %(organization)s AND app_id = %(app)s AND producer_id = %(producer)s
    AND opened_at = %(opened)s
RETURNING opened_at
"""


async def forget(
    cell: CellSession,
    organization_id: UUID,
    producer: Producer,
    now_us: int,
    *,
    in_use: bool = False,
) -> None:
    """Have a producer begin anew at 0; a stream that it has open is ended with its next batch.

    AdministrationError if a stream may be open, unless ``in_use`` is True, or if one was opened
    since the producer was read.
    """
    if not in_use and producer.opened_at > to_datetime(now_us) - MAX_STREAM_AGE:
        raise AdministrationError(
            f"a stream of the producer {producer.producer_id!r} was opened within the last "
            f"{MAX_STREAM_AGE // timedelta(hours=1)} hours and may be open still: --force forgets "
            "it all the same"
        )
    subject = f"{ids.text(ids.APP, producer.app_id)}/{producer.producer_id}"
    change = Change("producer.forget", organization_id, subject)
    change.before = {"sequence": producer.sequence, "accepted": producer.accepted}
    values = {
        "organization": organization_id,
        "app": producer.app_id,
        "producer": producer.producer_id,
        "opened": producer.opened_at,
        "unused": UNUSED,
    }
    async with cell.recording(change):
        if await (await cell.db.execute(_FORGET, values)).fetchone() is None:
            raise AdministrationError(
                f"a stream of the producer {producer.producer_id!r} has been opened just now"
            )
