"""Checks of the values that operators type.

The messages are for the person who typed the command: they name the value and what to do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from core import limits
from core.admin.errors import InvalidValueError
from core.rules import fields

# Far above the capacity of a process: a bound for typing errors.
MAX_REQUESTS_PER_SECOND: Final = 1_000_000

T = TypeVar("T")


def checked(what: str, rule: Callable[[T], T], value: T) -> T:
    """The value, if it obeys the rule; otherwise raises InvalidValueError with the reason.

    ``what``: the value's name in the message.
    """
    try:
        return rule(value)
    except ValueError as error:
        shown = f" {value!r}" if isinstance(value, str) and 0 < len(value) <= 64 else ""
        raise InvalidValueError(f"the {what}{shown} {error}") from None


def name(what: str, value: str) -> str:
    """A name of 1 to 200 characters, without blanks at its ends, which nobody would see."""
    checked(what, fields.name, value)
    if value != value.strip():
        raise InvalidValueError(f"the {what} {value!r} must not start or end with white space")
    return value


def storable(given: str) -> str | None:
    """The text to look up for a name as it was typed; None if no stored name can equal it."""
    try:
        return fields.text(given, limits.MAX_BODY_BYTES)
    except ValueError:
        return None


def requests_per_second(value: int) -> int:
    """A rate limit of a key or an organization."""
    if not 1 <= value <= MAX_REQUESTS_PER_SECOND:
        raise InvalidValueError(
            f"the rate limit {value} must be 1 to {MAX_REQUESTS_PER_SECOND} requests per second"
        )
    return value
