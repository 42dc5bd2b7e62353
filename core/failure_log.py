"""The log of background work that fails and goes on: a line a minute, however often it fails."""

from __future__ import annotations

import logging
from typing import Final

from core.clock import Clock

LOG_SECONDS: Final = 60.0


def one_line(error: BaseException) -> str:
    """An error's text, fit for a log line."""
    return " ".join(str(error).split())


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
