"""Where events and their members begin and end, in bodies that a strict parser refuses.

One event with a NaN or ten thousand brackets makes the whole document unparsable, and must not
cost its neighbours. This finds the pieces with a parser that lets NaN pass and, where even that
one gives up, by strings and brackets alone; each piece is then judged on its own.
"""

from __future__ import annotations

import contextlib
import gc
import json
import re
from collections.abc import Iterator
from typing import Any, Final

# Bounds the time for a body made to be slow; a batch of sense has a tenth of these.
MAX_NESTED_TOKENS: Final = 200_000

_SPACE: Final = re.compile(r"[ \t\r\n]*+")
# What nesting depends on: a string, or a run of opening or of closing brackets.
_NESTING: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"|[\[{]++|[\]}]++|"', re.DOTALL)


class DocumentError(ValueError):
    """The body is not JSON, by any reading; the message says why."""


class _ConstantError(Exception):
    """A word that Python takes for a number and JSON does not have."""


def _refuse_constant(word: str) -> None:
    raise _ConstantError(word)


# Numbers stay text: it is not their range that is judged here.
_scan: Final = json.JSONDecoder(parse_int=str, parse_float=str).raw_decode
_strict: Final = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_refuse_constant)


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    # What is parsed here is thrown away at once. Looking for cycles among a hundred thousand
    # lists meanwhile would take most of the time.
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@_uncollected()
def split_events(body: str, most: int) -> list[str] | None:
    """The texts of the elements of the last member ``events``, None if that is not an array.

    When there are over ``most``, the first of them: the rest of the body is not looked at. Raises
    :class:`DocumentError` for what is not JSON, outside of events also for NaN and deep nesting.
    """
    reader = _Reader(body)
    events: list[str] | None = None
    reader.take("{")
    if reader.peek() != "}":
        while True:
            name = reader.name()
            if name == "events":
                events = reader.elements(most) if reader.peek() == "[" else None
                if events is None:
                    reader.strict_value()
                elif len(events) > most:
                    return events
            else:
                reader.strict_value()
            if reader.peek() != ",":
                break
            reader.take(",")
    reader.take("}")
    if reader.peek():
        raise DocumentError(f"unexpected text after the document at character {reader.at}")
    return events


@_uncollected()
def split_members(text: str) -> list[tuple[str, str]] | None:
    """The names and texts of an object's members; None if it is not an object.

    Values may hold NaN and deep nesting. :class:`DocumentError` for what is JSON to nobody.
    """
    reader = _Reader(text)
    if reader.peek() != "{":
        return None
    members: list[tuple[str, str]] = []
    reader.take("{")
    if reader.peek() != "}":
        while True:
            name = reader.name()
            members.append((name, reader.element()))
            if reader.peek() != ",":
                break
            reader.take(",")
    reader.take("}")
    return members


class _Reader:
    """A place in a text, and the steps over what is expected there."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.at = 0

    def peek(self) -> str:
        space = _SPACE.match(self._text, self.at)
        assert space is not None
        self.at = space.end()
        return self._text[self.at : self.at + 1]

    def take(self, expected: str) -> None:
        if self.peek() != expected:
            raise DocumentError(f"expected '{expected}' at character {self.at}")
        self.at += 1

    def name(self) -> str:
        """Step over a member's name and its colon."""
        if self.peek() != '"':
            raise DocumentError(f"expected a string at character {self.at}")
        name = str(self.strict_value())
        self.take(":")
        return name

    def strict_value(self) -> Any:
        """Step over a value that must be JSON; returns it, numbers as their text."""
        self.peek()
        try:
            value, self.at = _strict.raw_decode(self._text, self.at)
        except _ConstantError as error:
            raise DocumentError(f"{error} after character {self.at}") from None
        except RecursionError:
            raise DocumentError(f"nested too deeply after character {self.at}") from None
        except ValueError as error:
            raise DocumentError(str(error)) from None
        return value

    def elements(self, most: int) -> list[str]:
        """Step over an array; returns the texts of its elements, or of the first over ``most``."""
        texts: list[str] = []
        self.take("[")
        if self.peek() != "]":
            while len(texts) <= most:
                texts.append(self.element())
                if self.peek() != ",":
                    break
                self.take(",")
            else:
                return texts
        self.take("]")
        return texts

    def element(self) -> str:
        """Step over a value, be there NaN or deep nesting in it; returns its text."""
        self.peek()
        begin = self.at
        try:
            _, self.at = _scan(self._text, begin)
        except RecursionError:
            self.at = self._end_of_nested(begin)
        except ValueError as error:
            raise DocumentError(str(error)) from None
        return self._text[begin : self.at]

    def _end_of_nested(self, begin: int) -> int:
        depth = 0
        tokens = _NESTING.finditer(self._text, begin)
        for token, _ in zip(tokens, range(MAX_NESTED_TOKENS), strict=False):
            match token[0][0]:
                case "[" | "{":
                    depth += len(token[0])
                case "]" | "}":
                    if len(token[0]) >= depth:  # the run may close more than this value
                        return token.start() + depth
                    depth -= len(token[0])
        raise DocumentError(f"nested too deeply, or without an end, after character {begin}")
