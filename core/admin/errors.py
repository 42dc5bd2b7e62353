"""Refusals of an operator's request.

The messages are for the person who typed the command: they name the value and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class AdministrationError(Exception):
    """An operator's request that was refused. Nothing was changed."""


class InvalidValueError(AdministrationError, ValueError):
    """A value breaks a rule, independently of the data."""


class NotFoundError(AdministrationError):
    """Nothing has the given name, or several things have."""


class AlreadyExistsError(AdministrationError):
    """Something of that name exists already, and the name must be unique."""


def not_found(what: str, given: str, known: Iterable[str], remedy: str) -> NotFoundError:
    """The error for a name that nothing has: with a similar name, or the way to list all."""
    close = get_close_matches(given, known, n=1)
    return NotFoundError(
        f"there is no {what} {given!r}: " + (f"did you mean {close[0]!r}?" if close else remedy)
    )
