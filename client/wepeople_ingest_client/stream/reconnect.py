"""The wait between two streams of a producer, and the moment to give up."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Final

from wepeople_ingest_client.stream.status import ProducerError, StreamStatus

log = logging.getLogger(__name__)

FIRST_BACKOFF_SECONDS: Final = 0.1
MAX_BACKOFF_SECONDS: Final = 10.0
MAX_COUNTED_ATTEMPTS: Final = 20
# A stream that lasted at least so long ended for its age, not for a fault of its beginning.
SETTLED_SECONDS: Final = 5.0


class Reconnect:
    """Exponential backoff with jitter; progress resets it.

    ``give_up_after_seconds`` bounds the time without progress. None means no bound.
    """

    def __init__(self, give_up_after_seconds: float | None) -> None:
        self._give_up_after_seconds = give_up_after_seconds
        self._failed_attempts = 0
        self._failing_since: float | None = None

    def note_progress(self) -> None:
        """Forget the failures so far: a batch was committed, or none is waiting."""
        self._failed_attempts = 0
        self._failing_since = None

    async def wait(self, status: StreamStatus, lasted_seconds: float) -> None:
        """Wait until opening another stream makes sense.

        ``status`` is that of the last stream, which lasted ``lasted_seconds``. Raises
        :class:`ProducerError` if another stream cannot help, or if the time to give up would pass
        during the wait.
        """
        if not status.is_passing:
            raise ProducerError(status.code, status.reason, status.message)
        now = asyncio.get_running_loop().time()
        if status.is_age and (self._failing_since is None or lasted_seconds >= SETTLED_SECONDS):
            log.info("the server ended the stream for its age; opening another")
            self._failing_since = now
            return
        if self._failing_since is None:
            self._failing_since = now
        delay = self._delay(status)
        give_up = self._give_up_after_seconds
        if give_up is not None and now + delay > self._failing_since + give_up:
            message = f"{status.message or status.code.name}; given up after {give_up:g} s"
            raise ProducerError(status.code, status.reason, message)
        log.warning(
            "the stream ended (%s: %s); opening another in %.1f s",
            status.reason or status.code.name,
            status.message,
            delay,
        )
        await asyncio.sleep(delay)

    def _delay(self, status: StreamStatus) -> float:
        backoff: float = min(MAX_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2**self._failed_attempts)
        self._failed_attempts = min(self._failed_attempts + 1, MAX_COUNTED_ATTEMPTS)
        jitter = random.uniform(0.5, 1)  # noqa: S311 - only keeps clients apart
        return backoff * jitter + (status.retry_after_seconds or 0)
