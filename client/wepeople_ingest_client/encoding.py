"""Events and snapshots as JSON text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Final

import msgspec

from wepeople_ingest_client.models import AnyEvent, AnySnapshot

# Decimals are numbers with all their digits.
_encode: Final = msgspec.json.Encoder(decimal_format="number").encode
# A number that is none is written as one of these, and so may be much that is right.
_NON_FINITE: Final = (b"null", b"NaN", b"Infinity")


def encode(item: AnyEvent | AnySnapshot) -> bytes:
    """Return the JSON of an event or a snapshot.

    Raises ValueError if JSON cannot express it: a NaN, an infinity, an unpaired surrogate, an
    object of another type, a nesting without end.
    """
    try:
        known = dict(item) if isinstance(item, Mapping) else item
        text = _encode(known)
        # To look at every value takes a hundred times as long as to encode them.
        if any(word in text for word in _NON_FINITE):
            # A dataclass, an enumeration and the like as what they are written as.
            plain = msgspec.to_builtins(known, builtin_types=(Decimal,), enc_hook=_unread)
            _refuse_non_finite(plain)
    except (TypeError, OverflowError, RecursionError, UnicodeEncodeError) as error:
        raise ValueError(f"cannot be written as JSON: {error}") from error
    return text


def _unread(_: msgspec.Raw) -> None:
    """Stand for text that is JSON already."""


def _refuse_non_finite(value: object) -> None:
    """Raise ValueError for a number that the encoder would write as null or as no JSON."""
    if isinstance(value, float | Decimal):
        if not math.isfinite(value):
            raise ValueError(f"cannot be written as JSON: {value}")
    elif isinstance(value, dict):
        for one in value.values():
            _refuse_non_finite(one)
    elif isinstance(value, list | tuple | set | frozenset):
        for one in value:
            _refuse_non_finite(one)
