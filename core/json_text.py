"""The rules of metadata and metrics: JSON objects that are stored as sent (contract section 5).

Every rule raises ValueError with the words for the client.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from core import limits

# JSON text. Raw is a slice of a message that was decoded around it.
JsonText = bytes | msgspec.Raw

_TOO_DEEP: Final = f"must be nested at most {limits.MAX_JSON_DEPTH} deep"
_OVERFLOW: Final = "must not contain numbers that overflow a double"

# The least integer that overflows a double has this many digits.
_MIN_OVERFLOW_DIGITS: Final = 309
_LONG_INTEGER: Final = re.compile(rb"\d{%d}" % _MIN_OVERFLOW_DIGITS)
# A string, or a run of opening or of closing brackets: all that matters for the depth.
_TOKENS: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[{]++|[\]}]++', re.DOTALL)
# The longest escape of one byte of UTF-8 is \u0041. A text without white space that is longer than
# this is over the limit however it is written.
_MAX_ESCAPED_BYTES: Final = 6 * limits.MAX_JSON_BYTES

# msgspec's own conversion takes 10 us for some doubles near the largest, a hundred times as long as
# Python's. A body full of them would hold up the event loop for seconds, so only short texts are
# left to msgspec.
MAX_SHORT_BYTES: Final = 128
MAX_TOGETHER_BYTES: Final = limits.MAX_BATCH_EVENTS * MAX_SHORT_BYTES


def _double(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("number out of range")  # as msgspec says it
    return number


_decode_short: Final = msgspec.json.Decoder().decode
_decode_object: Final = msgspec.json.Decoder(dict[str, Any]).decode
_decode_long: Final = msgspec.json.Decoder(float_hook=_double).decode
# Keeps the spelling of numbers, to measure the compact form.
_decode_spelled: Final = msgspec.json.Decoder(float_hook=msgspec.Raw).decode
_encode: Final = msgspec.json.Encoder().encode


def are_storable_as_sent(texts: Iterable[bytes | None]) -> bool:
    """Whether all texts are objects that :func:`storable` would return unchanged.

    A quick test for the usual batch: False only means that each text needs :func:`storable`.
    """
    given = [text for text in texts if text is not None]
    if not given:
        return True
    together = b"\n".join(given)
    if len(together) > MAX_TOGETHER_BYTES or max(map(len, given)) >= _MIN_OVERFLOW_DIGITS:
        return False
    # An object is no deeper than its opening brackets are many, and each of the other objects has
    # at least one of them all. The first "in" is for speed: most objects hold no array.
    brackets = together.count(b"{") + (together.count(b"[") if b"[" in together else 0)
    if brackets - (len(given) - 1) > limits.MAX_JSON_DEPTH:
        return False
    # The first "in" is for speed: one byte is found faster than six.
    if b"\\" in together and b"\\u0000" in together:
        return False
    try:
        for _ in map(_decode_object, given):
            pass
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True


def storable(text: JsonText) -> bytes:
    """The text to store for a metadata or metrics object: as sent, to the last digit.

    A text that is over the limit is compacted if that brings it within.
    """
    return parse(text)[0]


def decode(text: bytes) -> Any:
    """The value of any JSON text; ValueError if PostgreSQL could not store it."""
    try:
        value = _decode_short(text) if len(text) <= MAX_SHORT_BYTES else _decode_long(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(_explain_json(error)) from None
    if b"\\u0000" in text and _has_nul(value):
        raise ValueError("must not contain U+0000")
    if len(text) >= _MIN_OVERFLOW_DIGITS and _LONG_INTEGER.search(text):
        _check_range(value)
    return value


def parse(text: JsonText) -> tuple[bytes, dict[str, Any]]:
    """The text to store, as :func:`storable`, and the object it spells."""
    text = bytes(text)
    if len(text) > limits.MAX_JSON_BYTES:
        text = _compact(text)
    if text.count(b"[") + text.count(b"{") > limits.MAX_JSON_DEPTH:
        _check_depth(text)
    value = decode(text)
    if type(value) is not dict:
        raise ValueError("must be an object")
    if len(text) > limits.MAX_JSON_BYTES:
        _check_size(len(_encode(_decode_spelled(text))))
    return text, value


def _compact(text: bytes) -> bytes:
    """The text without white space; ValueError if it is over the limit however it is written."""
    try:
        text = msgspec.json.format(text, indent=-1)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(_explain_json(error)) from None
    if len(text) > _MAX_ESCAPED_BYTES:
        _check_size(len(text))
    return text


def _check_size(size: int) -> None:
    if size > limits.MAX_JSON_BYTES:
        raise ValueError(f"must be at most {limits.MAX_JSON_BYTES} bytes as compact UTF-8 JSON")


def _check_depth(text: bytes) -> None:
    depth = 0
    for token in _TOKENS.finditer(text):
        run = token[0]
        match run[0]:
            case 0x5B | 0x7B:  # [ {
                depth += len(run)
                if depth > limits.MAX_JSON_DEPTH:
                    raise ValueError(_TOO_DEEP)
            case 0x5D | 0x7D:  # ] }
                depth -= len(run)


def _explain_json(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return _TOO_DEEP
    text = str(error).lower()
    if "out of range" in text:
        return _OVERFLOW
    if "surrogate" in text or "hex escape" in text or isinstance(error, UnicodeDecodeError):
        return "must not contain unpaired surrogates or invalid UTF-8"
    return "must be valid JSON (no NaN, Infinity or -Infinity, no unpaired surrogates)"


def _has_nul(value: object) -> bool:
    match value:
        case str():
            return "\0" in value
        case dict():
            return any("\0" in key or _has_nul(item) for key, item in value.items())
        case list():
            return any(_has_nul(item) for item in value)
    return False


def _check_range(value: object) -> None:
    match value:
        case int():
            try:
                float(value)
            except OverflowError:
                raise ValueError(_OVERFLOW) from None
        case dict():
            for item in value.values():
                _check_range(item)
        case list():
            for item in value:
                _check_range(item)
