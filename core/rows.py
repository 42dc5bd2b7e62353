"""Rows of the events table in the bytes of PostgreSQL's binary COPY.

https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format": a row is its number of
fields, then each field's length and bytes; NULL is the length -1; integers are big-endian.

A row is made of two pieces: the head (who), built once for each person of a batch, and the tail
(what happened), packed while the batch is validated.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from core.events import Worker

COLUMNS: Final = (
    "organization_id, app_id, worker_id, "
    "event_type, category, id, occurred_at, duration_seconds, metadata"
)
COPY_EVENTS: Final = f"COPY events ({COLUMNS}) FROM STDIN (FORMAT binary)"

_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)  # no flags, no header extension
_TRAILER: Final = b"\xff\xff"
NONE: Final = _SIGNATURE + _TRAILER  # what COPY takes if there are no rows
_FIELDS: Final = struct.pack(">h", 9)
_NULL: Final = b"\xff\xff\xff\xff"
_UUID_LENGTH: Final = struct.pack(">i", 16)
_length: Final = struct.Struct(">i").pack
_integer: Final = struct.Struct(">ii").pack
_id_and_moment: Final = struct.Struct(">iQQiq").pack
_all_given: Final = struct.Struct(">iQQiqiii").pack  # id, moment, duration, length of metadata
_POSTGRES_EPOCH_US: Final = 946_684_800_000_000  # 2000-01-01 in microseconds since 1970


def kind(event_type: str, category: str) -> bytes:
    """The fields event_type and category: the start of a tail, the same for many events."""
    parts = (event_type.encode(), category.encode())
    return b"".join([_length(len(part)) + part for part in parts])


def tails(
    first_id: UUID,
    kinds: Sequence[bytes],
    instants: Sequence[int],
    durations: Sequence[int | None],
    metadata: Sequence[bytes | None],
) -> list[bytes]:
    """The fields from event_type on, of events whose ids count up (:func:`ids.first_of_batch`).

    ``instants``: microseconds since 1970. ``durations``: seconds.
    """
    high, low = divmod(first_id.int, 1 << 64)
    id_bits = range(low, low + len(kinds))
    columns: zip[Any] = zip(kinds, id_bits, instants, durations, metadata, strict=True)
    if None in durations or None in metadata:
        return [
            its_kind
            + _id_and_moment(16, high, bits, 8, us - _POSTGRES_EPOCH_US)
            + (_NULL if seconds is None else _integer(4, seconds))
            + (_NULL if text is None else _length(len(text)) + text)
            for its_kind, bits, us, seconds, text in columns
        ]
    return [
        its_kind
        + _all_given(16, high, bits, 8, us - _POSTGRES_EPOCH_US, 4, seconds, len(text))
        + text
        for its_kind, bits, us, seconds, text in columns
    ]


def assemble(
    organization_id: UUID,
    app_id: UUID,
    workers: Sequence[Worker | None],
    slots: Sequence[int],
    tails: Sequence[bytes],
) -> list[bytes]:
    """The pieces of a batch's rows, in order: the head and the tail of each.

    ``slots`` says for each tail which of the workers its event is about.
    """
    app = _FIELDS + _UUID_LENGTH + organization_id.bytes + _UUID_LENGTH + app_id.bytes
    heads = [b"" if worker is None else app + _UUID_LENGTH + worker.id.bytes for worker in workers]
    pieces = [b""] * (2 * len(tails))
    pieces[::2] = map(heads.__getitem__, slots)
    pieces[1::2] = tails
    return pieces


def table(pieces: Sequence[bytes]) -> bytes:
    """What COPY takes: all rows, whose pieces are given; :data:`NONE` if there are none."""
    return b"".join([_SIGNATURE, *pieces, _TRAILER])
