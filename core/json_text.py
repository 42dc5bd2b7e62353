"""The rules of metadata and metrics: JSON objects that are stored compact (contract section 5).

Stored are the members that count, in their order, each number by the digits that were sent, as
UTF-8 without white space and without escapes that are not needed. Every rule raises ValueError
with the words for the client.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from secrets import randbelow
from typing import Any, Final

import msgspec
from msgspec import Raw

from core import json_scan, limits
from core.slices import SLICE_BYTES, Sliced, at_once, uncollected

# JSON text. Raw is a slice of a message that was decoded around it.
JsonText = bytes | Raw

# An event's object stands in the event, in the array, in the document itself; a snapshot's only in
# the last.
MAX_EVENT_DEPTH: Final = limits.MAX_JSON_DEPTH - 3
MAX_SNAPSHOT_DEPTH: Final = limits.MAX_JSON_DEPTH - 1
# How long a text may be without its white space and what earlier duplicates of its members had, to
# be looked at for escapes and for duplicates further inside.
MAX_SPELLED_BYTES: Final = 16 * limits.MAX_JSON_BYTES
MAX_TOGETHER_BYTES: Final = 2 * SLICE_BYTES  # are checked in one slice
MAX_CACHED_NUMBERS: Final = 10_000  # of few characters each
MAX_CACHED_CHARACTERS: Final = 32
# A shorter text is not nested too deeply and has no integer that overflows a double.
_MIN_LONG_BYTES: Final = 2 * MAX_EVENT_DEPTH

UNSTORABLE_TEXT: Final = "must not contain U+0000 or unpaired surrogates"
OVERFLOW: Final = "must not contain numbers that overflow a double"
_TOO_LONG: Final = f"must be at most {limits.MAX_JSON_BYTES} bytes as compact UTF-8 JSON"
_SCALE: Final = "must not contain numbers with over 16383 digits after the point"

# A parser makes the integers 0 and -0 the same. An exponent that nobody can guess tells them apart.
_NEGATIVE_ZERO: Final = re.compile(rb"-0(?<![eE]-0)(?=[\s,\]}])")
_MARKED_ZERO: Final = f"-0e-{randbelow(10**18)}"


class _Numbers(dict[str, Raw]):
    """Numbers with a point or an exponent, as they are spelled; those that recur are checked once.

    msgspec would convert them to doubles, some of them a hundred times as slowly as Python does.
    """

    def __missing__(self, spelling: str) -> Raw:
        if len(spelling) > MAX_CACHED_CHARACTERS:
            _check_number(spelling)
            return Raw(spelling)
        if "e" in spelling or "E" in spelling:
            _check_number(spelling)
        if len(self) >= MAX_CACHED_NUMBERS:
            self.clear()
        number = self[spelling] = Raw(spelling)
        return number


def _check_number(spelling: str) -> None:
    if spelling != _MARKED_ZERO:
        if json_scan.overflows_at_once(spelling.encode()):
            raise ValueError(OVERFLOW)
        if not json_scan.is_numeric(spelling):
            raise ValueError(_SCALE)


_spelled: Final = _Numbers().__getitem__
_objects: Final = msgspec.json.Decoder(dict[str, Any], float_hook=_spelled)
_decode: Final = msgspec.json.Decoder(float_hook=_spelled).decode
_decode_members: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_encoder: Final = msgspec.json.Encoder()
_encode: Final = _encoder.encode

# What becomes of each text: the text to store, the problem, or None if there was no text.
Stored = Sequence[bytes | ValueError | None]


def check_all(texts: Sequence[JsonText | None], depth: int) -> Sliced[Stored]:
    """The text to store for each object, or what is wrong with it.

    ``depth``: the levels that an object may have, itself among them.
    """
    given = [text for text in texts if text is not None]
    stored: Stored | None = given and _check_together(given, depth)
    if stored is None:
        stored = yield from _check_in_pieces(given, depth)
    if len(given) == len(texts):
        return stored
    following = iter(stored)
    return [None if text is None else next(following) for text in texts]


def _check_in_pieces(texts: list[JsonText], depth: int) -> Sliced[list[bytes | ValueError]]:
    stored: list[bytes | ValueError] = []
    begin = size = 0
    for end, text in enumerate(texts, 1):
        size += len(text)
        if size < SLICE_BYTES and end < len(texts):
            continue
        piece = texts[begin:end]
        together = _check_together(piece, depth)
        if together is not None:
            stored += together
        else:
            for one in piece:
                stored.append((yield from _check(one, depth)))
        begin, size = end, 0
        yield
    return stored


def _check(text: JsonText, depth: int) -> Sliced[bytes | ValueError]:
    try:
        stored, value = yield from compact(text, depth)
    except ValueError as error:
        return error
    return stored if type(value) is dict else ValueError("must be an object")


def _check_together(texts: list[JsonText], depth: int) -> list[bytes] | None:
    """As :func:`check_all`, in a third of the time.

    None if the texts are too large together, or need a closer look each.
    """
    together = b"\n".join(texts)
    if len(together) > MAX_TOGETHER_BYTES:
        return None
    if b"\\" in together and b"\\u0000" in together:
        return None
    if b"-0" in together and _NEGATIVE_ZERO.search(together + b" "):
        return None
    longest = max(map(len, texts))
    if longest >= _MIN_LONG_BYTES and not all(_is_plain(text, depth) for text in texts):
        return None
    try:
        with uncollected(len(together)):
            stored = _encoder.encode_lines(_objects.decode_lines(together)).split(b"\n")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    del stored[-1]
    if len(stored) != len(texts):
        return None
    # A text is never longer when it is compact.
    if longest > limits.MAX_JSON_BYTES and max(map(len, stored)) > limits.MAX_JSON_BYTES:
        return None
    return stored if _are_apart(texts, together) else None


def _are_apart(texts: list[JsonText], together: bytes) -> bool:
    """Whether no text could end within another one.

    Slices of a message cannot. Other texts have to be objects from the first to the last byte: what
    was joined can then be read in no other way.
    """
    if set(map(type, texts)) == {Raw}:
        return True
    ends = len(texts) - 1
    return (
        together[:1] + together[-1:] == b"{}"
        and together.count(b"}\n{") == ends
        and together.count(b"\n") == ends
    )


def _is_plain(text: JsonText, depth: int) -> bool:
    if len(text) < _MIN_LONG_BYTES:
        return True
    text = bytes(text)
    return (
        len(text) <= SLICE_BYTES
        and at_once(json_scan.too_deep_at(text, depth)) is None
        and not at_once(json_scan.overflows(text))
    )


def compact(text: JsonText, depth: int) -> Sliced[tuple[bytes, Any]]:
    """The text to store for any JSON text, and its value, in which Raw stands for a fraction."""
    text = bytes(text)
    is_long = len(text) > SLICE_BYTES
    kept = _without_space(text)
    if is_long:
        yield
    if (yield from json_scan.too_deep_at(kept, depth)) is not None:
        raise ValueError(f"must be nested at most {depth} deep")
    if is_long:
        yield
    if json_scan.has_nul(kept):
        raise ValueError(UNSTORABLE_TEXT)
    if (yield from json_scan.overflows(kept)):
        raise ValueError(OVERFLOW)
    if is_long:
        yield
    return _reencode(_latest(kept))


def _without_space(text: bytes) -> bytes:
    """The text without its white space; ValueError if it is too long, whatever it says."""
    try:
        text = msgspec.json.format(text, indent=-1)
        if len(text) > MAX_SPELLED_BYTES and len(_latest(text)) > MAX_SPELLED_BYTES:
            raise ValueError(_TOO_LONG)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(_explain(error)) from None
    return text


def _latest(text: bytes) -> bytes:
    """The text without earlier duplicates of its own members, if it is that long."""
    is_long = len(text) > MAX_SPELLED_BYTES and text.startswith(b"{")
    return _encode(_decode_members(text)) if is_long else text


def _mark_zeros(outside: bytes) -> bytes:
    # A loop of C for each, where a pattern would take a hundred times as long.
    marked = _MARKED_ZERO.encode()
    outside = outside.replace(b"e-0", b"\2").replace(b"E-0", b"\3")
    for end in (b",", b"]", b"}"):
        outside = outside.replace(b"-0" + end, marked + end)
    return outside.replace(b"\3", b"E-0").replace(b"\2", b"e-0")


def _reencode(text: bytes) -> tuple[bytes, Any]:
    has_zeros = b"-0" in text and _NEGATIVE_ZERO.search(text + b" ") is not None
    if has_zeros:
        text = json_scan.change_outside(_mark_zeros, text)
    try:
        with uncollected(len(text)):
            value = _decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(_explain(error)) from None
    stored = _encode(value)
    if has_zeros:
        stored = stored.replace(_MARKED_ZERO.encode(), b"-0")
    if len(stored) > limits.MAX_JSON_BYTES:
        raise ValueError(_TOO_LONG)
    return stored, value


def _explain(error: Exception) -> str:
    text = str(error)
    for problem in (OVERFLOW, _SCALE):
        if problem in text:
            return problem
    if isinstance(error, UnicodeDecodeError):
        return "must not contain invalid UTF-8"
    if "surrogate" in text or "hex escape" in text:
        return UNSTORABLE_TEXT
    return "must be valid JSON (no NaN, Infinity or -Infinity, no unpaired surrogates)"
