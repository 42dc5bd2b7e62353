"""RFC 3339 timestamps with an offset, to and from microseconds since the Unix epoch (UTC)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import repeat
from operator import sub
from typing import Annotated, Final

import msgspec

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_US_PER_SECOND: Final = 1_000_000
US_PER_MINUTE: Final = 60 * _US_PER_SECOND
US_PER_DAY: Final = 86_400 * _US_PER_SECOND
# Most events come from a few recent minutes, and formatting the minute is the costly part.
MAX_CACHED_MINUTES: Final = 4_096
MAX_CACHED_DAYS: Final = 64
# Judging a batch parses its timestamps, and the digest of the batch parses them again.
MAX_CACHED_TEXTS: Final = 4_096
_SECONDS: Final = tuple(f"{second:02}" for second in range(60))

# Years 1 to 9999 UTC: the range of Python's datetime and of RFC 3339.
MIN_US: Final = (datetime(1, 1, 1, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
MAX_US: Final = (datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC) - _EPOCH) // timedelta(
    microseconds=1
)

# RFC 3339 section 5.6. The RFC allows lower-case "t" and "z", and any number of fraction digits.
_RFC3339: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt]((?:[01]\d|2[0-3]):\d\d:)(\d\d)(\.\d+)?(?:[Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)\Z",
    re.ASCII,
)

# The form in which clients are told of timestamps, and in which most clients send them.
_USUAL: Final = re.compile(
    r"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{0,5}[1-9])?Z\Z", re.ASCII
)
_MAX_USUAL_CHARACTERS: Final = len("2026-04-19T12:05:00.123456Z")
_Moments = list[Annotated[datetime, msgspec.Meta(tz=True)]]
_TRAILING_ZERO: Final = re.compile(r"\.\d*0Z", re.ASCII)

_FORM: Final = "must be an RFC 3339 date-time with an offset, like 2026-04-19T12:05:00Z"

_NO_SUCH_TIME: Final = "must be a date and time that exists, in the years 1 to 9999"


def parse(given: str) -> tuple[int, str]:
    """Microseconds since the epoch, and the same instant as :func:`format_us` writes it.

    Raises ValueError with the words for the client. Digits beyond the microsecond are cut off.
    A leap second becomes the first instant of the next minute, as in PostgreSQL.
    """
    return (_parse_short if len(given) <= _MAX_USUAL_CHARACTERS else _parse)(given)


def _parse(given: str) -> tuple[int, str]:
    if _USUAL.match(given):
        try:
            return from_datetime(datetime.fromisoformat(given)), given
        except ValueError:
            raise ValueError(_NO_SUCH_TIME) from None
    match = _RFC3339.match(given)
    if match is None:
        raise ValueError(_FORM)
    date, clock, second, fraction = match.groups()
    leap = second == "60"
    try:
        if leap:
            given = f"{date}T{clock}59{fraction or ''}{given[match.end(4 if fraction else 3) :]}"
        moment = datetime.fromisoformat(given.upper())
        if leap:
            moment = moment.replace(microsecond=0) + timedelta(seconds=1)
        us = from_datetime(moment)
    except (ValueError, OverflowError):
        raise ValueError(_NO_SUCH_TIME) from None
    if not MIN_US <= us <= MAX_US:
        raise ValueError("must be in the years 1 to 9999 in UTC")
    return us, format_us(us)


_parse_short: Final = lru_cache(MAX_CACHED_TEXTS)(_parse)


def parse_together(given: Sequence[str]) -> Sequence[int] | None:
    """Microseconds since the epoch of each text, as :func:`parse`, at a third of its cost.

    None if any text is invalid, or is not in UTC with ``T`` and ``Z`` and at most six digits of
    fraction: each has to be parsed on its own then.
    """
    count, text = len(given), "".join(given)
    # The decoder accepts more: lower case, a space, other offsets, more digits. It refuses a second
    # T or Z in one text, so as many of them as there are texts means one in each.
    if (
        text.count("T") != count
        or text.count("Z") != count
        or len(max(given, key=len, default="")) > _MAX_USUAL_CHARACTERS
    ):
        return None
    try:
        moments = msgspec.convert(given, _Moments)
    except ValueError:  # not a date and time, or surrogates
        return None
    return [
        since.days * US_PER_DAY + since.seconds * _US_PER_SECOND + since.microseconds
        for since in map(sub, moments, repeat(_EPOCH))
    ]


def echo_together(given: Sequence[str]) -> Sequence[str]:
    """As :func:`format_us` for each text that :func:`parse_together` has parsed."""
    text = "".join(given)
    if "0Z" not in text or not _TRAILING_ZERO.search(text):
        return given
    return [one[:-1].rstrip("0").rstrip(".") + "Z" if "." in one else one for one in given]


def format_us(us: int) -> str:
    """UTC with ``Z``, to the microsecond, no trailing zeros: ``2026-04-19T12:05:00.25Z``."""
    minute, rest = divmod(us, US_PER_MINUTE)
    second, fraction = divmod(rest, _US_PER_SECOND)
    text = _format_minute(minute) + _SECONDS[second]
    return f"{text}.{fraction:06}".rstrip("0") + "Z" if fraction else text + "Z"


@lru_cache(MAX_CACHED_MINUTES)
def _format_minute(minute: int) -> str:
    return (_EPOCH + timedelta(minutes=minute)).isoformat()[:17]


def to_datetime(us: int) -> datetime:
    """An aware datetime in UTC."""
    return _EPOCH + timedelta(microseconds=us)


def from_datetime(moment: datetime) -> int:
    """Microseconds since the epoch of an aware datetime."""
    since = moment - _EPOCH
    return since.days * US_PER_DAY + since.seconds * _US_PER_SECOND + since.microseconds


def month_start(us: int) -> datetime:
    """The first instant of the calendar month (UTC) that contains the moment."""
    return _month_start(us // US_PER_DAY)


@lru_cache(MAX_CACHED_DAYS)
def _month_start(day: int) -> datetime:
    return (_EPOCH + timedelta(days=day)).replace(day=1)
