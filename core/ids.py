"""Prefixed, sortable identifiers: ``evt_01HP3K5V4J3M9NVT8XZKQ9YQ2E``.

An id is a ULID (48 bits of milliseconds, 80 random bits; github.com/ulid/spec), kept in the
database as the 16 bytes of a ``uuid`` and shown to people as a prefix and 26 Crockford base32
characters. Both forms sort by time.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import Final, TypeVar
from uuid import UUID

import msgspec

ORGANIZATION: Final = "org_"
APP: Final = "app_"
KEY: Final = "key_"
WORKER: Final = "wrk_"
EVENT: Final = "evt_"
REQUEST: Final = "req_"

_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS: Final = tuple(high + low for high in _ALPHABET for low in _ALPHABET)
_VALUES: Final = {character: value for value, character in enumerate(_ALPHABET)}
_TEXT: Final = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}\Z")
_RANDOM_BITS: Final = 80
_RANDOM_BYTES: Final = _RANDOM_BITS // 8
_RANDOM_CHARACTERS: Final = _RANDOM_BITS // 5
_DIGITS: Final = (_ALPHABET * 8).encode()  # of random bytes: each digit is that of eight of them
FETCHED_IDS: Final = 256
_Random = TypeVar("_Random", int, str)
MAX_CACHED_DIGITS: Final = 16

# The system's random bits, fetched for many ids at a time: each fetch is a system call. A forked
# process must not use those of its parent again.
_random: Final[deque[int]] = deque()
_random_texts: Final[deque[str]] = deque()
if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_random.clear)
    os.register_at_fork(after_in_child=_random_texts.clear)


def _fetched(pool: deque[_Random], make: Callable[[bytes], _Random], size_bytes: int) -> _Random:
    """The next of a pool, which is filled with what is made of so many random bytes each."""
    if not pool:
        data = os.urandom(size_bytes * FETCHED_IDS)
        ends = range(size_bytes, len(data) + 1, size_bytes)
        pool.extend(make(data[end - size_bytes : end]) for end in ends)
    return pool.popleft()


def ulid_bits(now_us: int) -> int:
    """A new ULID as a 128-bit integer: the given time to the millisecond, then 80 random bits."""
    return ((now_us // 1_000) << _RANDOM_BITS) | _fetched(_random, int.from_bytes, _RANDOM_BYTES)


def new(now_us: int) -> UUID:
    """A new id created at ``now_us`` (microseconds since the epoch)."""
    # As UUID(int=...), but made in C.
    return msgspec.convert(ulid_bits(now_us).to_bytes(16, "big"), UUID)


def first_of_batch(now_us: int) -> UUID:
    """A new id from which a batch counts up, which changes its last 64 bits only."""
    return UUID(int=ulid_bits(now_us) & ~(1 << 63))


def first_at(now_us: int) -> UUID:
    """The smallest id of that millisecond: the bound of a range of ids by time."""
    return UUID(int=(now_us // 1_000) << _RANDOM_BITS)


def created_us(identifier: UUID) -> int:
    """When the id was made, in microseconds since the epoch, exact to the millisecond."""
    return (identifier.int >> _RANDOM_BITS) * 1_000


def encode(bits: int) -> str:
    """The 26 characters of a ULID."""
    pairs = _PAIRS
    return "".join([pairs[bits >> shift & 1023] for shift in range(120, -1, -10)])


def text(prefix: str, identifier: UUID) -> str:
    """The id as people and clients see it."""
    return prefix + encode(identifier.int)


def parse(prefix: str, given: str) -> UUID | None:
    """The id behind its text, or None if the text is not one with this prefix.

    Exact and case-sensitive: an id has one spelling.
    """
    if not given.startswith(prefix) or not _TEXT.match(given, len(prefix)):
        return None
    bits = 0
    for character in given[len(prefix) :]:
        bits = bits << 5 | _VALUES[character]
    return UUID(int=bits)


def new_request_id(now_us: int) -> str:
    """A new request id. Only its text is needed, and to make that alone is faster."""
    ms = now_us // 1_000
    time = f"{_early_digits(ms >> 20)}{_PAIRS[ms >> 10 & 1023]}{_PAIRS[ms & 1023]}"
    return f"{REQUEST}{time}{_fetched(_random_texts, _random_digits, _RANDOM_CHARACTERS)}"


@lru_cache(MAX_CACHED_DIGITS)
def _early_digits(bits: int) -> str:
    """The first six digits of a time in milliseconds, from its upper 28 bits: for 17 minutes."""
    return encode(bits)[-6:]


def _random_digits(data: bytes) -> str:
    return data.translate(_DIGITS).decode()
