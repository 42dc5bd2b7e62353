"""JSON text by its bytes: strings, nesting and numbers, without parsing it.

Every function looks at each byte a bounded number of times, in loops of C, and makes no values. It
expects JSON; of any other text it says nothing of use, and a parser refuses that anyway.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from itertools import accumulate
from typing import Final

from core.slices import SLICE_BYTES, Sliced

_STEPS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # as signed bytes: 1 and -1
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[{]}"))
_LONE_SURROGATE: Final = re.compile(
    rb"\\u[dD](?:[89abAB]..(?!\\u[dD][c-fC-F])|[c-fC-F]..(?<!\\u[dD][89abAB]..\\u[dD]...))",
    re.DOTALL,
)

# A number of fewer characters, whose exponent has one or two digits, does not overflow a double.
_LONG_NUMBER: Final = 200
_DIGITS: Final = bytes.maketrans(b"123456789.E", b"0000000000e")
_NUMBERS: Final = re.compile(
    r"[0-9](?<![0-9.eE+].)(?<![eE]-.)"
    r"(?:[0-9.]{199,}+(?:[eE][+-]?[0-9]++)?|[0-9.]*+[eE]\+?[0-9]{3,}+)"
)
_OVERFLOW: Final = Decimal(2**1024 - 2**970)  # the least number that is rounded to infinity
_NUMBERS_SLICE_BYTES: Final = 2 * SLICE_BYTES  # of text without its strings
_MAX_EXPONENT: Final = 1_000_000_000  # PostgreSQL refuses larger ones, even of zeros
_MAX_SCALE: Final = 16_383  # the digits after the point that a jsonb number may have


def overflows(text: bytes) -> Sliced[bool]:
    """Whether any number in the text overflows a double, or has an exponent of over 18 digits."""
    shape = text.translate(_DIGITS, b"+")
    if not (b"0e000" in shape or b"0" * _LONG_NUMBER in shape):
        return False
    yield
    outside = b'"'.join(_pieces(text)[::2])
    begin = 0
    while begin < len(outside):
        end = outside.find(b",", begin + _NUMBERS_SLICE_BYTES) + 1 or len(outside)
        if overflows_at_once(outside[begin:end]):
            return True
        begin = end
        yield
    return False


def overflows_at_once(numbers: bytes) -> bool:
    """As :func:`overflows`, of a short text without strings."""
    large = set(_NUMBERS.findall(numbers.decode("latin-1")))
    try:
        return max(map(Decimal, large), default=_OVERFLOW - 1) >= _OVERFLOW
    except InvalidOperation:
        return True


def is_numeric(number: str) -> bool:
    """Whether PostgreSQL can cast a number that does not overflow a double to numeric."""
    mantissa, _, exponent = number.lower().partition("e")
    fraction = mantissa.partition(".")[2]
    power = int(exponent or 0)
    return len(fraction) - power <= _MAX_SCALE and power < _MAX_EXPONENT


def has_nul(text: bytes) -> bool:
    """Whether any string in the text has a U+0000."""
    return b"\\u0000" in text and b"\\u0000" in text.replace(b"\\\\", b"__")


def without_lone_surrogates(text: bytes) -> bytes:
    """The text, as long as before, with a U+0000 for each surrogate that is not one of a pair.

    Such an escape is JSON, but no parser here takes it, and no event may have either of the two.
    """
    if b"\\u" not in text or b"\0" in text:
        return text
    hidden = text.replace(b"\\\\", b"\0\0")  # what follows two of them is no escape
    return _LONE_SURROGATE.sub(rb"\\u0000", hidden).replace(b"\0\0", b"\\\\")


def too_deep_at(text: bytes, levels: int) -> Sliced[int | None]:
    """The index of the first bracket that is nested deeper than so many levels, if any is."""
    if text.count(b"[") + text.count(b"{") <= levels:
        return None
    pieces = _pieces(text)
    yield
    steps = b"".join(pieces[::2]).translate(_STEPS, _NO_BRACKETS)
    yield
    depths = accumulate(memoryview(steps).cast("b"))
    try:
        before = operator.indexOf(depths, levels + 1)
    except ValueError:
        return None
    yield
    return _bracket_at(pieces, before)


def _bracket_at(pieces: list[bytes], before: int) -> int:
    """The index of the bracket outside of strings that has so many others before it, by halves."""
    low, high = 0, len(pieces)
    while high - low > 2:
        middle = low + (high - low + 2) // 4 * 2  # a piece outside of strings
        brackets = len(b"".join(pieces[low:middle:2]).translate(None, _NO_BRACKETS))
        if brackets > before:
            high = middle
        else:
            low, before = middle, before - brackets
    begin = len(b'"'.join(pieces[:low])) + bool(low)
    text = pieces[low]
    low, high = 0, len(text)
    while high - low > 1:
        middle = (low + high) // 2
        brackets = len(text[low:middle].translate(None, _NO_BRACKETS))
        if brackets > before:
            high = middle
        else:
            low, before = middle, before - brackets
    return begin + low


def change_outside(change: Callable[[bytes], bytes], text: bytes) -> bytes:
    """The text with a change made to what is outside of strings, in one call for all of it."""
    pieces = text.replace(b"\\\\", b"\0\0").replace(b'\\"', b"\0\1").split(b'"')
    pieces[::2] = change(b'"'.join(pieces[::2])).split(b'"')
    return b'"'.join(pieces).replace(b"\0\1", b'\\"').replace(b"\0\0", b"\\\\")


def _pieces(text: bytes) -> list[bytes]:
    """The text split at its quotes: pieces with an even index are outside of strings."""
    if b"\\" in text:
        text = text.replace(b"\\\\", b"__").replace(b'\\"', b"__")
    return text.split(b'"')
