"""Free-form objects: a google.protobuf.Struct, or JSON text in a member ``…_json``."""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec
from google.protobuf.struct_pb2 import Struct, Value

from core.limits import MAX_JSON_BYTES

# A number has the most bytes for the size of its JSON: 11, and two with its comma.
MAX_STRUCT_BYTES: Final = 6 * MAX_JSON_BYTES
# No value of an object takes less than two bytes of JSON with its comma.
MAX_STRUCT_VALUES: Final = MAX_JSON_BYTES // 2

_TOO_LARGE: Final = f"must be at most {MAX_JSON_BYTES} bytes as compact UTF-8 JSON"
_EXACT_INTEGERS: Final = 2.0**53  # a double up to here is the integer it looks like

_encode: Final = msgspec.json.Encoder().encode


def json_text(member: str, struct: Struct | None, text: bytes | None) -> bytes | None:
    """The JSON text of a member that has two forms; None if it has neither.

    ``text`` is returned as it is; the core checks that it is JSON. Raises ValueError, which names
    the member, if both forms are set or the Struct is too large or has a value that JSON cannot
    express.
    """
    if struct is None:
        return text
    if text is not None:
        raise ValueError(f"{member}: set {member} or {member}_json, not both")
    try:
        if struct.ByteSize() > MAX_STRUCT_BYTES:
            raise ValueError(_TOO_LARGE)
        return _encode(_Reader().object(struct))
    except ValueError as error:
        raise ValueError(f"{member}: {error}") from None


class _Reader:
    """Reads the values of a Struct, as many as it may have."""

    def __init__(self) -> None:
        self._left = MAX_STRUCT_VALUES

    def object(self, struct: Struct) -> dict[str, Any]:
        return {name: self._value(value) for name, value in struct.fields.items()}

    def _value(self, value: Value) -> Any:
        self._left -= 1
        if self._left < 0:
            raise ValueError(_TOO_LARGE)
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
                return self.object(value.struct_value)
            case "list_value":
                return [self._value(item) for item in value.list_value.values]
            case "null_value":
                return None
        raise ValueError("must not contain a value of no kind")
