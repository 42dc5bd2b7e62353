"""Fingerprints of requests: equal digests for equal requests (contract section 7).

A request with a used idempotency key is a replay if it has the digest of the first one. Two
requests are equal if their values are, in any JSON spelling and over either protocol.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from functools import partial
from itertools import chain, islice
from types import NoneType
from typing import Any, Final, cast

import msgspec
from msgspec import Raw

from core import json_scan, json_text, limits, timestamps
from core.json_text import Stored
from core.models import Actor, Event, EventColumns, Events, Malformed, Snapshot
from core.rules import fields
from core.slices import SLICE_BYTES, Sliced, at_once, uncollected

MIN_COLUMN_TIMESTAMPS: Final = 8  # fewer are parsed sooner one by one
MAX_CACHED_NUMBERS: Final = 10_000  # of few characters each

# A fraction has this form if it fits, so that most are what they were spelled as.
_MAX_PLAIN_CHARACTERS: Final = 24
# An integer of more digits is written with an exponent, as it may have been sent.
_MAX_INTEGER_DIGITS: Final = 18
_DIGITS: Final = bytes.maketrans(b"123456789", b"000000000")
_LONG_RUN: Final = b"0" * (_MAX_INTEGER_DIGITS + 1)
_LONG_INTEGER: Final = re.compile(
    rb"(?<![0-9.eE+])(?<![eE]-)[0-9]{%d,}+(?![.eE])" % (_MAX_INTEGER_DIGITS + 1)
)


class _Numbers(dict[str, int | Raw]):
    """One form for all spellings of a number: 1.0, 1 and 1e0, but 0.1 and 0.10000000000000000001.

    Of numbers in metadata and metrics, which have a bounded exponent.
    """

    def __missing__(self, spelling: str) -> int | Raw:
        number = _canonical_number(spelling)
        if len(spelling) <= json_text.MAX_CACHED_CHARACTERS:
            if len(self) >= MAX_CACHED_NUMBERS:
                self.clear()
            self[spelling] = number
        return number


def _canonical_number(spelling: str) -> int | Raw:
    has_exponent = "e" in spelling or "E" in spelling
    if spelling[-1] > "0" and not has_exponent and len(spelling) <= _MAX_PLAIN_CHARACTERS:
        return Raw(spelling)  # a fraction without trailing zeros
    mantissa, _, exponent = spelling.lower().partition("e")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, fraction = mantissa.removeprefix("-").partition(".")
    padded = (whole + fraction).lstrip("0")
    digits = padded.rstrip("0")
    if not digits:
        return 0
    power = int(exponent or 0) - len(fraction) + len(padded) - len(digits)
    if power >= 0 and len(digits) + power <= _MAX_INTEGER_DIGITS:
        return int(sign + digits + "0" * power)
    if -_MAX_PLAIN_CHARACTERS < power < 0:
        padded = digits.zfill(1 - power)
        plain = f"{sign}{padded[:power]}.{padded[power:]}"
        if len(plain) <= _MAX_PLAIN_CHARACTERS:
            return Raw(plain)
    return Raw(f"{sign}{digits}e{power}")


_decode_lines: Final = msgspec.json.Decoder(float_hook=_Numbers().__getitem__).decode_lines
_encode_lines: Final = msgspec.json.Encoder(order="sorted").encode_lines


def _values(texts: list[bytes]) -> list[Any]:
    """The values of compact texts, with each number in its one form."""
    together = b"\n".join(texts)
    if _LONG_RUN in together.translate(_DIGITS):
        together = json_scan.change_outside(partial(_LONG_INTEGER.sub, rb"\g<0>e0"), together)
    return _decode_lines(together)


def _canonical_texts(given: Sequence[object], stored: Stored) -> list[object]:
    """The values of texts that are stored; of others the bytes, which no value is equal to."""
    if set(map(type, stored)) == {bytes}:
        return _values(cast("list[bytes]", stored))
    values = iter(_values([text for text in stored if isinstance(text, bytes)]))
    return [
        next(values)
        if isinstance(text, bytes)
        else text
        if text is None
        else ["unstorable", bytes(cast("bytes", sent))]
        for sent, text in zip(given, stored, strict=True)
    ]


def _canonical_content(content: bytes) -> object:
    if len(content) <= limits.MAX_JSON_BYTES:
        try:
            return _values([at_once(json_text.compact(content, limits.MAX_JSON_DEPTH))[0]])
        except ValueError:
            pass
    return content


def _canonical_moment(moment: str | int | None) -> object:
    try:
        return None if moment is None else fields.instant(moment)
    except ValueError:
        return moment


def _canonical_moments(events: Events) -> Sequence[object]:
    if isinstance(events, EventColumns):
        if events.instants is not None:
            return events.instants
        given, is_tried = list(events.timestamps), True
    else:
        given = [event.timestamp if isinstance(event, Event) else None for event in events]
        is_tried = len(given) < MIN_COLUMN_TIMESTAMPS
    types = set(map(type, given))
    if types <= {int, NoneType}:
        return given  # in or out of their range, an instant is its own form
    if not is_tried and types == {str}:
        together = timestamps.parse_together(cast("list[str]", given))
        if together is not None:
            return together
    return list(map(_canonical_moment, given))


def _canonical_actor(actor: Actor | None) -> object:
    return actor and (actor.worker_id, actor.external_id, actor.email, actor.display_name)


def _canonical_duration(seconds: int | float | None) -> object:
    return int(seconds) if isinstance(seconds, float) and seconds.is_integer() else seconds


def _canonical_item(item: Event | Malformed, moment: object, metadata: object) -> object:
    if isinstance(item, Malformed):
        return {"malformed": _canonical_content(item.content)}
    return (
        item.event_type,
        item.category,
        _canonical_actor(item.actor),
        moment,
        _canonical_duration(item.duration),
        metadata,
    )


_Unencodable: Final = (UnicodeEncodeError, RecursionError)


def _lines(values: list[object]) -> bytes:
    try:
        return _encode_lines(values)
    except _Unencodable:
        return b"".join(map(_line, values))


def _line(value: object) -> bytes:
    try:
        return _encode_lines([value])
    except _Unencodable:  # by escapes, which are never stored
        return json.dumps(value, sort_keys=True, default=_unencodable).encode() + b"\n"


def _unencodable(value: object) -> object:
    """A number in its form, or bytes that are no text."""
    return {type(value).__name__: bytes(cast("Raw | bytes", value)).hex()}


def digests(batches: Sequence[tuple[Sequence[Event | Malformed], Stored]]) -> list[bytes]:
    """As :func:`events_digest` of each of many small batches: its events and what is stored."""
    events = list(chain.from_iterable(events for events, _ in batches))
    stored = list(chain.from_iterable(stored for _, stored in batches))
    lines = _canonical_lines(events, _canonical_moments(events), stored)
    each = iter(lines.splitlines(keepends=True))
    return [hashlib.sha256(b"".join(islice(each, len(events)))).digest() for events, _ in batches]


def events_digest(batch: Events, stored: Stored) -> bytes:
    """The SHA-256 of a batch's canonical form, malformed items included, 32 bytes.

    ``stored``: the metadata as :func:`json_text.check_all` returned it.
    """
    return hashlib.sha256(_canonical_lines(batch, _canonical_moments(batch), stored)).digest()


def events_digest_in_slices(batch: Events, stored: Stored) -> Sliced[bytes]:
    """As :func:`events_digest`, of a large batch."""
    moments = _canonical_moments(batch)
    digest = hashlib.sha256()
    begin = size = 0
    for end, item in enumerate(batch, 1):
        size += len((item.content if isinstance(item, Malformed) else item.metadata) or b"")
        if size < SLICE_BYTES and end < len(batch):
            continue
        piece = slice(begin, end)
        with uncollected(size):
            digest.update(_canonical_lines(batch[piece], moments[piece], stored[piece]))
        begin, size = end, 0
        if end < len(batch):
            yield
    return digest.digest()


def _canonical_lines(events: Events, moments: Sequence[object], stored: Stored) -> bytes:
    return _lines(_canonical_items(events, moments, stored))


def _canonical_items(events: Events, moments: Sequence[object], stored: Stored) -> list[object]:
    if isinstance(events, EventColumns):
        return _items_of_columns(events, moments, stored)
    texts = [None if isinstance(event, Malformed) else event.metadata for event in events]
    return list(map(_canonical_item, events, moments, _canonical_texts(texts, stored)))


def _items_of_columns(
    events: EventColumns, moments: Sequence[object], stored: Stored
) -> list[object]:
    event_types, categories = zip(*events.kinds, strict=True)
    actors = list(map(_canonical_actor, events.actors))
    seconds = {given: _canonical_duration(given) for given in set(events.durations)}
    return list(
        zip(
            map(event_types.__getitem__, events.kind_indexes),
            map(categories.__getitem__, events.kind_indexes),
            map(actors.__getitem__, events.actor_indexes),
            moments,
            map(seconds.__getitem__, events.durations),
            _canonical_texts(events.metadata, stored),
            strict=True,
        )
    )


def snapshot_digest(snapshot: Snapshot, stored: Stored) -> bytes:
    """The SHA-256 of a snapshot's canonical form; ``stored``: its metrics and metadata."""
    item = (
        snapshot.snapshot_type,
        _canonical_actor(snapshot.actor),
        _canonical_moment(snapshot.timestamp),
        *_canonical_texts([snapshot.metrics, snapshot.metadata], stored),
    )
    return hashlib.sha256(_lines([item])).digest()
