"""The pieces that the OpenAPI document is made of, and the ids its examples share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from core import ids, limits

Node = dict[str, Any]

_ULID: Final = "[0-7][0-9A-HJKMNP-TV-Z]{25}"
NO_NUL: Final = r"^[^\u0000]*$"

REQUEST_ID: Final = f"{ids.REQUEST}01KN7M3Q8ZC4T9W2E6XHRB5VYD"
WORKER_ID: Final = f"{ids.WORKER}01KM2B6F0P7JQ4S8N1TZVXC3GA"


def schema_ref(name: str) -> Node:
    """A use of the schema of this name."""
    return {"$ref": f"#/components/schemas/{name}"}


def object_of(description: str, required: Sequence[str], properties: Node, **more: Any) -> Node:
    """An object; members that are not required are optional."""
    return {
        "type": "object",
        "description": description,
        "required": list(required),
        "properties": properties,
    } | more


def text(description: str, most: int | None, example: str, least: int = 1) -> Node:
    """Text that the database can store, at most ``most`` characters of it."""
    bounds = {"minLength": least} | ({} if most is None else {"maxLength": most})
    return {
        "type": "string",
        "description": description,
        **bounds,
        "pattern": NO_NUL,
        "examples": [example],
    }


def type_name(description: str, example: str) -> Node:
    """The name of a type of events or snapshots."""
    return {
        "type": "string",
        "description": description,
        "minLength": limits.MIN_TYPE_CHARACTERS,
        "maxLength": limits.MAX_TYPE_CHARACTERS,
        "pattern": limits.TYPE_PATTERN,
        "examples": [example],
    }


def identifier(prefix: str, description: str) -> Node:
    """An id of our own making."""
    return {"type": "string", "description": description, "pattern": f"^{prefix}{_ULID}$"}


def count(description: str) -> Node:
    """How many there are, or a position."""
    return {"type": "integer", "minimum": 0, "description": description}
