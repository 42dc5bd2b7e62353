"""Producers: exactly-once streams by a sequence that is committed with its events.

Each stream of a producer has an epoch. Opening one raises it, waiting for a group that is being
written; from then on the older stream cannot write, for its epoch is checked under the row's lock
in the transaction of its events.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple
from uuid import UUID

from core.error_codes import ErrorCode, StreamReason
from core.errors import IngestError, StreamError
from core.models import Caller, StreamPosition
from core.postgres.pipeline import Command, Statement, as_records
from core.postgres.sessions import Connection
from core.rules import fields
from core.timestamps import to_datetime


class ProducerKey(NamedTuple):
    """Where a producer id is unique: within its app. Sorts, for a fixed lock order."""

    organization_id: UUID
    app_id: UUID
    producer_id: str


class Advance(NamedTuple):
    """What a group adds to a producer: so many batches, and so many of their events."""

    batches: int
    accepted: int
    rejected: int


class Progress(NamedTuple):
    """How far a producer has come, and which of its streams may write.

    ``accepted`` and ``rejected`` count the events of the batches up to ``sequence``.
    """

    sequence: int
    epoch: int
    accepted: int
    rejected: int

    def after(self, advance: Advance) -> Progress:
        """How far it is with what is added."""
        return self._replace(
            sequence=self.sequence + advance.batches,
            accepted=self.accepted + advance.accepted,
            rejected=self.rejected + advance.rejected,
        )


def check_producer_id(producer_id: str) -> None:
    """Raises ``invalid_body`` if the id is not 1 to 200 storable characters."""
    problems = fields.issue("producer_id", fields.name, producer_id)
    if problems:
        raise IngestError(ErrorCode.INVALID_BODY, problems[0])


def key(caller: Caller, producer_id: str) -> ProducerKey:
    """The producer of that id in the caller's app."""
    return ProducerKey(caller.organization_id, caller.app_id, producer_id)


_OPEN: Final = """
INSERT INTO producers AS producer (
    organization_id, app_id, producer_id, sequence, accepted, rejected, epoch, opened_at)
VALUES (%s, %s, %s, 0, 0, 0, 1, %s)
ON CONFLICT (organization_id, app_id, producer_id) DO UPDATE SET
    epoch = producer.epoch + 1, opened_at = excluded.opened_at
RETURNING sequence, epoch, accepted, rejected
"""

_LOCK: Final = Statement(
    "lock_producers",
    "json",
    """
SELECT organization_id, app_id, producer_id, sequence, epoch, accepted, rejected
FROM producers
WHERE (organization_id, app_id, producer_id) IN (
    SELECT * FROM json_to_recordset($1)
        AS wanted (organization_id uuid, app_id uuid, producer_id text))
ORDER BY 1, 2, 3
FOR UPDATE
""",
)

_ADVANCE: Final = Statement(
    "advance_producers",
    "json",
    """
UPDATE producers SET
    sequence = producers.sequence + added.batches,
    accepted = producers.accepted + added.accepted,
    rejected = producers.rejected + added.rejected
FROM json_to_recordset($1) AS added (
    organization_id uuid, app_id uuid, producer_id text,
    batches bigint, accepted bigint, rejected bigint)
WHERE producers.organization_id = added.organization_id
    AND producers.app_id = added.app_id AND producers.producer_id = added.producer_id
""",
)

_HAVE_REACHED: Final = """
SELECT EXISTS (
    SELECT FROM producers
    JOIN json_to_recordset(%s) AS reached (
        organization_id uuid, app_id uuid, producer_id text,
        sequence bigint, epoch bigint, accepted bigint, rejected bigint)
        USING (organization_id, app_id, producer_id, epoch)
    WHERE producers.sequence >= reached.sequence)
"""


async def open_stream(db: Connection, producer: ProducerKey, now_us: int) -> Progress:
    """Take the producer over for a new stream; returns how far it has come."""
    cursor = await db.execute(_OPEN, (*producer, to_datetime(now_us)))
    row = await cursor.fetchone()
    assert row is not None
    return Progress(*row)


def lock(producers: Iterable[ProducerKey]) -> Command | None:
    """Lock the producers' rows until the transaction ends; :func:`locked` tells what they say."""
    wanted = sorted(set(producers))
    return Command(_LOCK, as_records(ProducerKey._fields, wanted)) if wanted else None


def locked(call: Command | None) -> dict[ProducerKey, Progress]:
    """How far the producers have come that were locked."""
    return {
        ProducerKey(UUID(organization), UUID(app), producer): Progress(*map(int, progress))
        for organization, app, producer, *progress in (call.rows if call else ())
    }


def advance(added: Mapping[ProducerKey, Advance]) -> Command | None:
    """Record what is added to producers, in the transaction that holds their locks."""
    return Command(_ADVANCE, _records(Advance._fields, added)) if added else None


async def have_reached(db: Connection, reached: Mapping[ProducerKey, Progress]) -> bool:
    """Whether any producer has come so far in that epoch, in which only one stream writes.

    False if other streams have taken all of them over: then it is no longer known.
    """
    if not reached:
        return False
    cursor = await db.execute(_HAVE_REACHED, (_records(Progress._fields, reached),))
    row = await cursor.fetchone()
    return bool(row and row[0])


def _records(fields: Sequence[str], of: Mapping[ProducerKey, Iterable[int]]) -> str:
    rows = [(*producer, *values) for producer, values in of.items()]
    return as_records((*ProducerKey._fields, *fields), rows)


def follows(position: StreamPosition, progress: Progress | None) -> bool:
    """Whether a batch is the next one: True, or False for a duplicate of a committed one.

    Raises :class:`StreamError` if another stream has taken over, or if batches are missing.
    """
    if progress is None or position.epoch != progress.epoch:
        raise StreamError(
            StreamReason.PRODUCER_TAKEN_OVER,
            f"Another stream was opened with producer_id '{position.producer_id}'.",
        )
    if position.sequence > progress.sequence + 1:
        raise StreamError(
            StreamReason.SEQUENCE_GAP,
            f"sequence: {position.sequence} leaves a gap, {progress.sequence} is the last one "
            "committed",
        )
    return position.sequence > progress.sequence
