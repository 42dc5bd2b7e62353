"""Rows of the events table in the bytes of PostgreSQL's binary COPY.

https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format": a row is its number of
fields, then each field's length and bytes; NULL is the length -1; integers are big-endian.

A row is made of three pieces, each built where its values become known: the head (whose event),
the worker, and the tail (what happened), packed while the event is validated.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from core.events import Worker

COLUMNS: Final = (
    "organization_id, app_id, id, worker_id, "
    "event_type, category, occurred_at, duration_seconds, metadata"
)
COPY_EVENTS: Final = f"COPY events ({COLUMNS}) FROM STDIN (FORMAT binary)"

SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)  # no flags, no header extension
TRAILER: Final = b"\xff\xff"
_FIELDS: Final = struct.pack(">h", 9)
_NULL: Final = b"\xff\xff\xff\xff"
_UUID_LENGTH: Final = struct.pack(">i", 16)
_length: Final = struct.Struct(">i").pack
_timestamp: Final = struct.Struct(">iq").pack
_integer: Final = struct.Struct(">ii").pack
_all_given: Final = struct.Struct(">iqiii").pack  # a timestamp, an integer, a length
_POSTGRES_EPOCH_US: Final = 946_684_800_000_000  # 2000-01-01 in microseconds since 1970


def kind(event_type: str, category: str) -> bytes:
    """The fields event_type and category: the start of a tail, the same for many events."""
    parts = (event_type.encode(), category.encode())
    return b"".join([_length(len(part)) + part for part in parts])


def tail(kind_fields: bytes, us: int, seconds: int | None, metadata: bytes | None) -> bytes:
    """The fields from event_type on. ``us``: microseconds since 1970."""
    us -= _POSTGRES_EPOCH_US
    if seconds is not None and metadata is not None:
        return kind_fields + _all_given(8, us, 4, seconds, len(metadata)) + metadata
    row = kind_fields + _timestamp(8, us) + (_NULL if seconds is None else _integer(4, seconds))
    return row + (_NULL if metadata is None else _length(len(metadata)) + metadata)


def assemble(
    organization_id: UUID,
    app_id: UUID,
    first_id_bits: int,
    workers: Sequence[Worker | None],
    slots: Sequence[int],
    tails: Sequence[bytes],
) -> list[bytes]:
    """The pieces of a batch's rows, to be joined; the ids count up from ``first_id_bits``.

    ``slots`` says for each tail which of the workers its event is about.
    """
    head = (
        _FIELDS + _UUID_LENGTH + organization_id.bytes + _UUID_LENGTH + app_id.bytes + _UUID_LENGTH
    )
    pieces: list[bytes] = []
    add = pieces.extend
    bits = first_id_bits
    fields = [b"" if worker is None else _UUID_LENGTH + worker.id.bytes for worker in workers]
    for slot, its_tail in zip(slots, tails, strict=True):
        add((head, bits.to_bytes(16, "big"), fields[slot], its_tail))
        bits += 1
    return pieces
