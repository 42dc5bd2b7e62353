"""google.protobuf.Timestamp to the core's microseconds since the epoch, and back.

Nanoseconds below a microsecond are cut off. The core checks the range.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from core.timestamps import parse
from grpc_api import columnar

_NANOS: Final = 1_000_000_000  # in a second


def to_us(timestamp: Timestamp) -> int:
    """Microseconds since the epoch. Raises ValueError if the nanos are out of their range."""
    _check_nanos(timestamp.nanos)
    return timestamp.seconds * 1_000_000 + timestamp.nanos // 1_000


def column_to_us(encoded: Sequence[bytes]) -> Sequence[int] | None:
    """:func:`to_us` for a column of encoded timestamps; None if they must be read one by one."""
    columns = columnar.timestamps(encoded)
    if columns is None:
        return None
    seconds, nanos = columns
    _check_nanos(min(nanos), max(nanos))
    return [since * 1_000_000 + part // 1_000 for since, part in zip(seconds, nanos, strict=True)]


def set_moment(timestamp: Timestamp, moment: str | int) -> None:
    """Set a timestamp as the core tells of it: in microseconds since the epoch, or as a text."""
    us = moment if isinstance(moment, int) else parse(moment)[0]
    timestamp.seconds = us // 1_000_000
    timestamp.nanos = us % 1_000_000 * 1_000


def _check_nanos(*nanos: int) -> None:
    for one in nanos:
        if not 0 <= one < _NANOS:
            raise ValueError("timestamp: nanos must be 0 to 999999999")
