"""Producers: exactly-once streams by a sequence that is committed with its events.

Each stream of a producer has an epoch. Opening a stream raises the epoch, after a transaction that
is writing for the producer. The older stream cannot write from then on: its epoch is checked under
the lock of the producer's row, in the transaction of its events (docs/contract.md section 10).
Streams are opened in core/journal/app_producers.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple
from uuid import UUID

from core.error_codes import ErrorCode, StreamReason
from core.errors import IngestError, StreamError
from core.journal.pending import PendingRequest
from core.journal.pending_events import PendingEvents
from core.models import Caller, Receipt, StreamPosition
from core.postgres.pipeline import Command, Statement, as_records
from core.postgres.sessions import Connection
from core.rules import fields


class ProducerKey(NamedTuple):
    """A producer: its id is unique within its app. Sorts, for a fixed lock order."""

    organization_id: UUID
    app_id: UUID
    producer_id: str


class Advance(NamedTuple):
    """An addition to a producer: a number of batches, and of their events."""

    batches: int
    accepted: int
    rejected: int


class Progress(NamedTuple):
    """The position of a producer, and the epoch of the stream that may write.

    ``accepted`` and ``rejected`` count the events of the batches up to ``sequence``.
    """

    sequence: int
    epoch: int
    accepted: int
    rejected: int

    def after(self, advance: Advance) -> Progress:
        """The position once the addition is committed."""
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


def producer_key(caller: Caller, producer_id: str) -> ProducerKey:
    """The producer of that id in the caller's app."""
    return ProducerKey(caller.organization_id, caller.app_id, producer_id)


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


def lock_producers(producers: Iterable[ProducerKey]) -> Command | None:
    """Lock the producers' rows until the transaction ends; :func:`progress_of` reads them."""
    wanted = sorted(set(producers))
    return Command(_LOCK, as_records(ProducerKey._fields, wanted)) if wanted else None


def progress_of(command: Command | None) -> dict[ProducerKey, Progress]:
    """The positions of the producers that a command has locked."""
    return {
        ProducerKey(UUID(organization), UUID(app), producer): Progress(*map(int, progress))
        for organization, app, producer, *progress in (command.rows if command else ())
    }


def advance_producers(added: Mapping[ProducerKey, Advance]) -> Command | None:
    """Record additions to producers, in the transaction that holds their locks."""
    return Command(_ADVANCE, _records(Advance._fields, added)) if added else None


async def have_reached(db: Connection, reached: Mapping[ProducerKey, Progress]) -> bool:
    """Whether any of the producers has reached its position, in the same epoch.

    One stream alone writes in an epoch, so a position that is reached proves the commit. False if
    newer streams have taken over all the producers: the database no longer tells then.
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
    """Whether a batch is its producer's next one; False for a duplicate of a committed one.

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


class ProducerStep:
    """The producers of one transaction: their sequences are checked, and advance with the events.

    ``command`` locks the producers and reads their positions. Until :meth:`check` every batch is
    expected to be the next one of its producer.
    """

    def __init__(self, requests: Sequence[PendingRequest]) -> None:
        self._advancing = [
            (producer_key(request.caller, request.position.producer_id), request)
            for request in requests
            if isinstance(request, PendingEvents) and request.position is not None
        ]
        self._progress: dict[ProducerKey, Progress] = {}
        self.command = lock_producers([producer for producer, _ in self._advancing])

    def check(self) -> bool:
        """Whether each batch is its producer's next one; one that is not is answered as such."""
        self._progress = progress_of(self.command)
        ahead = dict(self._progress)  # the counts of accepted events are not known yet
        advancing: list[tuple[ProducerKey, PendingEvents]] = []
        for producer, request in self._advancing:
            current = ahead.get(producer)
            if _is_next(request, current):
                assert current is not None
                ahead[producer] = current.after(Advance(1, 0, 0))
                advancing.append((producer, request))
        all_advance = len(advancing) == len(self._advancing)
        self._advancing = advancing
        return all_advance

    def advance(self) -> Command | None:
        """Add the accepted and the rejected events of the batches to their producers."""
        return advance_producers(self._added())

    def reached(self) -> dict[ProducerKey, Progress]:
        """The positions of the producers once the transaction is committed."""
        return {
            producer: self._progress[producer].after(added)
            for producer, added in self._added().items()
        }

    def _added(self) -> dict[ProducerKey, Advance]:
        added: dict[ProducerKey, Advance] = {}
        for producer, request in self._advancing:
            batches, accepted, rejected = added.get(producer, (0, 0, 0))
            added[producer] = Advance(
                batches + 1, accepted + len(request.accepted), rejected + len(request.rejected)
            )
        return added


def _is_next(request: PendingEvents, progress: Progress | None) -> bool:
    """Whether the batch is the next of its producer; else ``replay`` becomes its answer."""
    assert request.position is not None
    try:
        if follows(request.position, progress):
            return True
    except StreamError as error:
        request.replay = error
    else:
        request.replay = Receipt(request.request_id, 0, (), (), duplicate=True)
    return False
