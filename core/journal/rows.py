"""The rows of a transaction: those of its events and snapshots that are accepted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final
from uuid import UUID

from core import ids
from core.journal.pending import PendingRequest
from core.journal.pending_events import PendingEvents
from core.journal.pending_snapshot import PendingSnapshot
from core.journal.snapshots import SnapshotRow
from core.postgres import copy_rows
from core.postgres.pipeline import Command, Statement

# The columns in the order of a COPY.
_INSERT: Final = Statement(
    "insert_event",
    "uuid, uuid, uuid, uuid, timestamptz, integer, json, text, text",
    """
INSERT INTO events (
    organization_id, app_id, worker_id, id,
    occurred_at, duration_seconds, metadata, event_type, category)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
""",
)

ProbeRow = tuple[UUID, UUID]  # its organization and its id


def packed(requests: Iterable[PendingRequest]) -> tuple[bytes, ProbeRow | None]:
    """The data of a COPY of all events, and the first row of the last request."""
    pieces: list[bytes] = []
    probe_row = None
    for request in requests:
        if isinstance(request, PendingEvents) and request.accepted:
            organization_id, app_id = request.caller.organization_id, request.caller.app_id
            actor_indexes, tails = _accepted(request)
            pieces += copy_rows.assemble(
                organization_id,
                app_id,
                request.checked.first_id,
                request.workers,
                actor_indexes,
                tails,
            )
            probe_row = (organization_id, request.first_id())
    return copy_rows.table(pieces), probe_row


def inserts(request: PendingEvents) -> list[Command]:
    """An INSERT of each event of a request, whose workers are known."""
    commands = []
    whose = (str(request.caller.organization_id), str(request.caller.app_id))
    for position in request.accepted:
        worker = request.workers[request.actor_indexes[position]]
        assert worker is not None
        row_id = UUID(int=request.checked.first_id + position)
        event = copy_rows.texts(request.checked.tails[position])
        commands.append(Command(_INSERT, *whose, str(worker.id), str(row_id), *event))
    return commands


def arrived(requests: Iterable[PendingRequest]) -> list[SnapshotRow]:
    """The rows of the snapshots, in order of arrival, with new ids."""
    rows: list[SnapshotRow] = []
    for request in requests:
        if isinstance(request, PendingSnapshot) and request.accepted:
            owner, its_id = request.caller, ids.new(request.received_us)
            worker = request.workers[0]
            assert worker is not None
            row = (owner.organization_id, owner.app_id, its_id, worker.id, request.received_us)
            rows.append(SnapshotRow(*row, request.checked))
    return rows


def _accepted(request: PendingEvents) -> tuple[Sequence[int], Sequence[bytes]]:
    actor_indexes, tails = request.actor_indexes, request.checked.tails
    if len(request.accepted) == len(actor_indexes):
        return actor_indexes, tails
    return (
        [actor_indexes[position] for position in request.accepted],
        [tails[position] for position in request.accepted],
    )
