"""The answers of a load that count as success."""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct

STATUSES: Final = (200, 201, 202, 204)
LENGTH: Final = "#"
MAX_SHOWN_CHARACTERS: Final = 300
_MISSING: Final = object()


class Success(Struct, frozen=True, forbid_unknown_fields=True):
    """The answers that count as success.

    ``status``: the statuses of HTTP. ``path``: a place in the answer's JSON, names and indexes with
    dots between them, and ``#`` for the length of a list; None for any answer. ``equals``: the
    value there. ``optional``: whether an answer without the place is a success, too.
    """

    status: tuple[int, ...] = STATUSES
    path: str | None = None
    equals: bool | int | float | str | None = None
    optional: bool = False

    def problem(self, document: Any) -> str | None:
        """The reason why an answer with this JSON is none; None if it is one."""
        if self.path is None:
            return None
        found = _at(document, self.path)
        if found is _MISSING:
            return None if self.optional else f"an answer has nothing at {self.path}"
        # As text: JSON of protobuf has numbers of 64 bits as strings.
        if str(found) == str(self.equals):
            return None
        has = repr(found)[:MAX_SHOWN_CHARACTERS]
        return f"an answer has {has} at {self.path}, not {self.equals!r}"


def _at(document: Any, path: str) -> Any:
    """The value at a path, or _MISSING."""
    for part in path.split("."):
        if isinstance(document, dict) and part in document:
            document = document[part]
        elif isinstance(document, list) and part == LENGTH:
            document = len(document)
        elif isinstance(document, list) and part.isdecimal() and int(part) < len(document):
            document = document[int(part)]
        else:
            return _MISSING
    return document
