"""Rows of the events table as the bytes of PostgreSQL's binary COPY.

https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format": a row is its number of
fields, then each field's length and bytes. NULL has the length -1. Integers are big-endian.

A row has two pieces. The head has the organization, the app, the worker and the half of the id that
all ids of a batch share; it is made once for each actor of a batch. The tail has the other half of
the id and the fields of the event; it is made when the event is checked.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from core.models import Worker
from core.timestamps import to_datetime

COPY_EVENTS: Final = """
COPY events (
    organization_id, app_id, worker_id, id,
    occurred_at, duration_seconds, metadata, event_type, category)
FROM STDIN (FORMAT binary)
"""

_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)  # no flags, no header extension
_TRAILER: Final = b"\xff\xff"
NO_ROWS: Final = _SIGNATURE + _TRAILER  # the data of a COPY without rows
_FIELD_COUNT: Final = struct.pack(">h", 9)
_NULL: Final = b"\xff\xff\xff\xff"
_UUID_LENGTH: Final = struct.pack(">i", 16)
_length: Final = struct.Struct(">i").pack
_read_length: Final = struct.Struct(">i").unpack_from
_integer: Final = struct.Struct(">ii").pack
_half_id: Final = struct.Struct(">Q").pack
_half_id_and_moment: Final = struct.Struct(">Qiq")
# The same, then the duration and the length of the metadata.
_all_given: Final = struct.Struct(">Qiqiii").pack
_HALF: Final = (1 << 64) - 1  # of the bits of an id
_POSTGRES_EPOCH_US: Final = 946_684_800_000_000  # 2000-01-01 in microseconds since 1970


def kind(event_type: str, category: str) -> bytes:
    """The fields event_type and category: the end of a tail, which many events share."""
    return _fields(event_type.encode(), category.encode())


def _fields(*values: bytes) -> bytes:
    return b"".join([_length(len(value)) + value for value in values])


def tails(
    first_id: int,
    kinds: Sequence[bytes],
    instants: Sequence[int],
    durations: Sequence[int | None],
    metadata: Sequence[bytes | None],
) -> list[bytes]:
    """The tails of a batch's rows: the second half of the id, and the fields after it.

    Ids count up from ``first_id`` (:func:`ids.first_of_batch`). ``kinds``: as :func:`kind` makes
    them. ``instants``: microseconds since 1970. ``durations``: seconds.
    """
    first = first_id & _HALF
    halves = range(first, first + len(kinds))
    columns: tuple[Any, ...] = (halves, instants, durations, metadata, kinds)
    if None not in durations and None not in metadata:  # of most batches
        return [
            _all_given(half, 8, us - _POSTGRES_EPOCH_US, 4, seconds, len(text)) + text + its_kind
            for half, us, seconds, text, its_kind in zip(*columns, strict=True)
        ]
    pack = _half_id_and_moment.pack
    return [
        pack(half, 8, us - _POSTGRES_EPOCH_US)
        + (_NULL if seconds is None else _integer(4, seconds))
        + (_NULL if text is None else _length(len(text)) + text)
        + its_kind
        for half, us, seconds, text, its_kind in zip(*columns, strict=True)
    ]


def assemble(
    organization_id: UUID,
    app_id: UUID,
    first_id: int,
    workers: Sequence[Worker | None],
    actor_indexes: Sequence[int],
    tails: Sequence[bytes],
) -> list[bytes]:
    """The pieces of a batch's rows, in order: the head and the tail of each.

    ``first_id``: the one of the tails. ``actor_indexes``: for each tail, the worker of its event.
    """
    before = _FIELD_COUNT + _fields(organization_id.bytes, app_id.bytes) + _UUID_LENGTH
    after = _UUID_LENGTH + _half_id(first_id >> 64)
    heads = [b"" if worker is None else before + worker.id.bytes + after for worker in workers]
    pieces = [b""] * (2 * len(tails))
    pieces[::2] = map(heads.__getitem__, actor_indexes)
    pieces[1::2] = tails
    return pieces


def table(pieces: Sequence[bytes]) -> bytes:
    """The data of a COPY, from the pieces of all rows; :data:`NO_ROWS` if there are none."""
    return b"".join([_SIGNATURE, *pieces, _TRAILER])


def texts(tail: bytes) -> list[str | None]:
    """The fields of an event, from its tail, as the text of SQL; None for NULL."""
    _, _, moment = _half_id_and_moment.unpack_from(tail)
    fields, start = [], _half_id_and_moment.size
    while start < len(tail):
        (length,) = _read_length(tail, start)
        start += 4
        fields.append(None if length < 0 else tail[start : start + length])
        start += max(length, 0)
    duration, *others = fields
    return [
        str(to_datetime(moment + _POSTGRES_EPOCH_US)),
        None if duration is None else str(int.from_bytes(duration, "big")),
        *[None if text is None else text.decode() for text in others],
    ]
