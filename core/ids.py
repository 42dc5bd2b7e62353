"""Prefixed, sortable identifiers: ``evt_01HP3K5V4J3M9NVT8XZKQ9YQ2E``.

An id is a ULID (48 bits of milliseconds, 80 random bits; github.com/ulid/spec). The database keeps
it as the 16 bytes of a ``uuid``; people see a prefix and 26 Crockford base32 characters. Both forms
sort by time.
"""

from __future__ import annotations

import os
import re
from typing import Final
from uuid import UUID

ORGANIZATION: Final = "org_"
APP: Final = "app_"
KEY: Final = "key_"
WORKER: Final = "wrk_"
OPERATOR: Final = "ops_"
EVENT: Final = "evt_"
REQUEST: Final = "req_"

# No id is smaller than the one, and all are smaller than the other.
NIL: Final = UUID(int=0)
MAX: Final = UUID(int=(1 << 128) - 1)

_RANDOM_BYTES: Final = 10
_RANDOM_BITS: Final = 8 * _RANDOM_BYTES
_ALL_BUT_THE_TOP_BIT_OF_THE_LAST_64: Final = ~(1 << 63)
_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
# 26 characters have 130 bits, so the first one holds the upper three of an id's 128.
_TEXT: Final = re.compile(rf"[0-7][{_ALPHABET}]{{25}}\Z")
# Two characters at a time, with ten bits each: 1.2 us an id instead of 2.9.
_PAIRS: Final = [one + other for one in _ALPHABET for other in _ALPHABET]
_SHIFTS: Final = range(120, -1, -10)


def new(now_us: int) -> UUID:
    """A new id created at ``now_us`` (microseconds since the epoch)."""
    return UUID(int=_new_bits(now_us))


def first_of_batch(now_us: int) -> int:
    """The integer of a new id from which a batch counts up.

    The top bit of its last 64 is zero, so that counting never changes its first 64 bits.
    """
    return _new_bits(now_us) & _ALL_BUT_THE_TOP_BIT_OF_THE_LAST_64


def first_at(now_us: int) -> UUID:
    """The smallest id of that millisecond: the bound of a range of ids by time."""
    return UUID(int=(now_us // 1_000) << _RANDOM_BITS)


def next_to(identifier: UUID) -> UUID:
    """The id that comes after this one, whether or not anything has it."""
    return UUID(int=min(identifier.int + 1, MAX.int))


def created_us(identifier: UUID) -> int:
    """When the id was made, in microseconds since the epoch, exact to the millisecond."""
    return (identifier.int >> _RANDOM_BITS) * 1_000


def text(prefix: str, identifier: UUID) -> str:
    """The id as people and clients see it."""
    return _spell(prefix, identifier.int)


def parse(prefix: str, given: str) -> UUID | None:
    """The id behind its text, or None if the text is not one with this prefix.

    Exact and case-sensitive: an id has one spelling.
    """
    if not given.startswith(prefix) or not _TEXT.match(given, len(prefix)):
        return None
    bits = 0
    for character in given[len(prefix) :]:
        bits = bits << 5 | _ALPHABET.index(character)
    return UUID(int=bits)


def new_request_id(now_us: int) -> str:
    """The text of a new id for a request or a batch of a stream."""
    return _spell(REQUEST, _new_bits(now_us))


def _new_bits(now_us: int) -> int:
    return (now_us // 1_000) << _RANDOM_BITS | int.from_bytes(os.urandom(_RANDOM_BYTES), "big")


def _spell(prefix: str, bits: int) -> str:
    return prefix + "".join([_PAIRS[bits >> shift & 1_023] for shift in _SHIFTS])
