"""Free-form objects: a google.protobuf.Struct, or JSON text in a member ``…_json``."""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec
from google.protobuf.struct_pb2 import Struct, Value

_EXACT_INTEGERS: Final = 2.0**53  # a double up to here is the integer it looks like

_encode: Final = msgspec.json.Encoder().encode


def json_text(member: str, struct: Struct | None, text: bytes | None) -> bytes | None:
    """The JSON text of a member that has two forms; None if it has neither.

    ``text`` is returned as it is; the core checks that it is JSON. Raises ValueError, which names
    the member, if both forms are set or the Struct has a value that JSON cannot express.
    """
    if struct is None:
        return text
    if text is not None:
        raise ValueError(f"{member}: set {member} or {member}_json, not both")
    try:
        return _encode(_object(struct))
    except ValueError as error:
        raise ValueError(f"{member}: {error}") from None


def _object(struct: Struct) -> dict[str, Any]:
    return {name: _value(value) for name, value in struct.fields.items()}


def _value(value: Value) -> Any:
    match value.WhichOneof("kind"):
        case "number_value":
            number = value.number_value
            if not math.isfinite(number):
                raise ValueError("must not contain NaN or Infinity")
            # Written as a person would: 3, not 3.0.
            whole = number.is_integer() and abs(number) <= _EXACT_INTEGERS
            return int(number) if whole else number
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return _object(value.struct_value)
        case "list_value":
            return [_value(item) for item in value.list_value.values]
        case "null_value":
            return None
    raise ValueError("must not contain a value of no kind")
