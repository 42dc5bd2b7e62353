"""RFC 3339 timestamps with an offset, as protobuf's Timestamp."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_RFC3339: Final = re.compile(
    r"(\d{4}-\d\d-\d\d[Tt](?:[01]\d|2[0-3]):\d\d:)(\d\d)(?:\.(\d+))?"
    r"([Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)\Z",
    re.ASCII,
)
_LEAP_SECOND: Final = "60"


def to_timestamp(text: str) -> Timestamp:
    """The instant; digits beyond the nanosecond are cut off.

    A leap second is the first instant of the next minute, as the service has it. Raises ValueError,
    with words for the sender, if the text is no date and time with an offset.
    """
    match = _RFC3339.match(text)
    if match is None:
        raise ValueError("must be an RFC 3339 date-time with an offset, like 2026-04-19T12:05:00Z")
    minute, second, fraction, offset = match.groups()
    is_leap = second == _LEAP_SECOND
    try:
        moment = datetime.fromisoformat(f"{minute}{'00' if is_leap else second}{offset}".upper())
    except ValueError:
        raise ValueError("must be a date and time that exists, in the years 1 to 9999") from None
    seconds = (moment - _EPOCH) // timedelta(seconds=1) + 60 * is_leap
    return Timestamp(seconds=seconds, nanos=0 if is_leap else int(f"{fraction or 0:0<9}"[:9]))
