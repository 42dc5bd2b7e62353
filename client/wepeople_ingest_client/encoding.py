"""Events and snapshots as JSON text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
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
        text = _encode(dict(item) if isinstance(item, Mapping) else item)
        # To look at every value takes a hundred times as long as to encode them.
        if any(word in text for word in _NON_FINITE):
            _refuse_non_finite(item)
    except (TypeError, OverflowError, RecursionError, UnicodeEncodeError) as error:
        raise ValueError(f"cannot be written as JSON: {error}") from error
    return text


def _refuse_non_finite(value: object) -> None:
    """Raise ValueError for a number that the encoder would write as null or as no JSON."""
    inner: Iterable[object] = ()
    if isinstance(value, float | Decimal):
        if not math.isfinite(value):
            raise ValueError(f"cannot be written as JSON: {value}")
    elif isinstance(value, Mapping):
        inner = value.values()
    elif isinstance(value, msgspec.Struct):
        inner = (getattr(value, name) for name in value.__struct_fields__)
    elif isinstance(value, list | tuple | set | frozenset):
        inner = value
    for one in inner:
        _refuse_non_finite(one)
