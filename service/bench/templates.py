"""The texts of a load: what is filled in once, and the ids that each request has its own of.

``${id}`` is the one placeholder of a load's texts. It stands for a UUID that is used once, and may
be there any number of times.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator
from typing import Final

ID: Final = "${id}"
ID_BYTES: Final = 36
_PREFIX_CHARACTERS: Final = 24  # of a UUID, before its last group


class Template:
    """A text whose ids differ from one rendering to the next; all have the same length."""

    def __init__(self, *pieces: bytes) -> None:
        self._first, *self._others = pieces

    @classmethod
    def of(cls, text: str) -> Template:
        """The template of a text with placeholders."""
        return cls(*text.encode().split(ID.encode()))

    def render(self, ids: Iterator[bytes]) -> bytes:
        """The text with the next ids."""
        if not self._others:
            return self._first
        rendered = [self._first]
        for piece in self._others:
            rendered += (next(ids), piece)
        return b"".join(rendered)


def length(text: str) -> int:
    """The bytes that a text with placeholders is rendered to."""
    return len(text.encode()) + text.count(ID) * (ID_BYTES - len(ID))


def unique_ids() -> Iterator[bytes]:
    """UUIDs without end, each of them new."""
    prefix = str(uuid.uuid4())[:_PREFIX_CHARACTERS].encode()
    return (prefix + b"%012x" % number for number in itertools.count())
