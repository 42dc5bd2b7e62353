"""Fingerprints of requests: equal digests for equal requests (contract section 7).

A request with a used idempotency key is a replay if it has the digest of the first one. Two
requests are equal if their values are, in any JSON spelling and over either protocol.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, InvalidOperation
from sys import float_info
from typing import Final, cast

import msgspec

from core import limits, timestamps
from core.json_text import JsonText
from core.models import Actor, Event, Events, Malformed, Snapshot
from core.rules import fields

MIN_COLUMN_TIMESTAMPS: Final = 8  # fewer are parsed sooner one by one

# No number that fits in a request is rounded.
_EXACT: Final = Context(prec=limits.MAX_BODY_BYTES, Emin=MIN_EMIN, Emax=MAX_EMAX)


def _canonical_number(spelling: str) -> int | Decimal | dict[str, str]:
    # 1.0, 1 and 1e0 are one number, because a protocol may send doubles. 0.1 and
    # 0.1000000000000000001 are two.
    if spelling[-1] > "0" and "e" not in spelling and "E" not in spelling:
        return Decimal(spelling)  # a fraction without trailing zeros
    try:
        number = Decimal(spelling)
    except InvalidOperation:
        # The exponent is beyond all bounds. The number equals only its own spelling; no stored
        # object can have U+0000 in a key.
        return {"\0": spelling}
    whole = number.to_integral_value(context=_EXACT)
    if number == whole and number.adjusted() <= float_info.max_10_exp:
        return int(whole)
    return number.normalize(_EXACT)


_decode: Final = msgspec.json.Decoder(float_hook=_canonical_number).decode
_encode: Final = msgspec.json.Encoder(order="sorted", decimal_format="number").encode


def _canonical_json(text: JsonText | None) -> object:
    if text is None:
        return None
    try:
        return _decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return [bytes(text)]


def _canonical_moment(moment: str | int | None) -> object:
    try:
        return None if moment is None else fields.moment(moment)[0]
    except ValueError:
        return moment


def _canonical_moments(events: Sequence[Event | Malformed]) -> Sequence[object]:
    given = [event.timestamp if isinstance(event, Event) else None for event in events]
    if len(given) >= MIN_COLUMN_TIMESTAMPS and set(map(type, given)) == {str}:
        together = timestamps.parse_together(cast("list[str]", given))
        if together is not None:
            return together
    return list(map(_canonical_moment, given))


def _canonical_actor(actor: Actor | None) -> object:
    return actor and (actor.worker_id, actor.external_id, actor.email, actor.display_name)


def _canonical_event(event: Event, moment: object) -> object:
    seconds = event.duration
    return (
        event.event_type,
        event.category,
        _canonical_actor(event.actor),
        moment,
        int(seconds) if isinstance(seconds, float) and seconds.is_integer() else seconds,
        _canonical_json(event.metadata),
    )


def _digest(value: object) -> bytes:
    try:
        encoded = _encode(value)
    except (UnicodeEncodeError, RecursionError):
        encoded = repr(value).encode(errors="backslashreplace")
    return hashlib.sha256(encoded).digest()


def events_digest(batch: Events) -> bytes:
    """The SHA-256 of a batch's canonical form, malformed items included, 32 bytes."""
    events = list(batch)
    return _digest(
        [
            _canonical_event(event, moment)
            if isinstance(event, Event)
            else _canonical_json(event.content)
            for event, moment in zip(events, _canonical_moments(events), strict=True)
        ]
    )


def snapshot_digest(snapshot: Snapshot) -> bytes:
    """The SHA-256 of a snapshot's canonical form, as :func:`events_digest`."""
    return _digest(
        (
            snapshot.snapshot_type,
            _canonical_actor(snapshot.actor),
            _canonical_moment(snapshot.timestamp),
            _canonical_json(snapshot.metrics),
            _canonical_json(snapshot.metadata),
        )
    )
