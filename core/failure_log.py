"""Errors as text for the log, and the log of background work that fails and goes on.

PostgreSQL's words about an error repeat values of rows, which are what people sent: in DETAIL and
CONTEXT, which psycopg appends to the text of its errors. No text here has any.
"""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Iterator
from typing import Final

import psycopg

from core.clock import Clock

LOG_SECONDS: Final = 60.0
# libpq repeats a connection string that it cannot read, with the password in it.
_QUOTED: Final = re.compile(r'".*"', re.DOTALL)
_DATA_EXCEPTION: Final = "22"  # the class of SQLSTATEs whose very message repeats the value


def one_line(error: BaseException) -> str:
    """An error's text, fit for a log line."""
    return " ".join(_text(error).split())


def _text(error: BaseException) -> str:
    if not isinstance(error, psycopg.Error) or error.sqlstate is None:
        is_of_a_string = isinstance(error, psycopg.ProgrammingError)
        return _QUOTED.sub("…", str(error)) if is_of_a_string else str(error)
    diagnosis = error.diag
    is_of_a_value = error.sqlstate.startswith(_DATA_EXCEPTION)
    message = None if is_of_a_value else diagnosis.message_primary
    facts = (error.sqlstate, diagnosis.table_name, diagnosis.column_name, diagnosis.constraint_name)
    return f"{message or type(error).__name__} ({', '.join(fact for fact in facts if fact)})"


def stack(error: BaseException) -> str:
    """The traceback of an error and of those behind it, without values as :func:`one_line`."""
    return "\n".join(_stack(error, set()))


def _stack(error: BaseException, seen: set[int]) -> Iterator[str]:
    seen.add(id(error))
    behind = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if behind is not None and id(behind) not in seen:
        yield from _stack(behind, seen)
        yield "The error behind the next one."
    if error.__traceback__ is not None:
        yield "Traceback (most recent call last):"
        yield "".join(traceback.format_tb(error.__traceback__)).rstrip("\n")
    yield f"{type(error).__qualname__}: {_text(error)}"
    if isinstance(error, BaseExceptionGroup):
        for number, member in enumerate(error.exceptions, start=1):
            yield f"Number {number} of the group:"
            yield from _stack(member, seen)


class FailureLog:
    """Logs the failures of one task to ``log``; those within ``LOG_SECONDS`` of a line get none."""

    def __init__(self, log: logging.Logger, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self._next_at = float("-inf")

    def note(self, what: str, error: BaseException, *, expected: bool) -> None:
        """Log that ``what`` failed; with the stack if the error was not ``expected``."""
        now = self._clock.monotonic()
        if now < self._next_at:
            return
        self._next_at = now + LOG_SECONDS
        reason = one_line(error) or type(error).__name__
        self._log.warning("%s: %s", what, reason, exc_info=None if expected else error)
