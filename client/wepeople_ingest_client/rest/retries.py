"""When a request is sent again: after which errors and pauses, and for how long."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

from wepeople_ingest_client.codes import RETRY_BY_CODE, Retry
from wepeople_ingest_client.limits import IDEMPOTENCY_WINDOW_SECONDS

# A repeat that begins by then arrives while the service knows the idempotency key: a place in the
# pool, the connection and the body take 60 s each at most.
MAX_RETRY_SECONDS: Final = IDEMPOTENCY_WINDOW_SECONDS - 180.0
MAX_ATTEMPTS: Final = 100

_STATUSES_THAT_PASS: Final = frozenset({408, 425, 429})  # and all from 500


def retry_of(code: str, status: int) -> Retry:
    """Return when to repeat a request; ``status`` decides on a code that is not the service's."""
    if code in RETRY_BY_CODE:
        return RETRY_BY_CODE[code]
    return Retry.LATER if status in _STATUSES_THAT_PASS or status >= 500 else Retry.NEVER


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and for how long a client repeats one request.

    ``max_attempts`` counts the first attempt, so 1 means no repeat. No attempt begins later than
    ``max_seconds`` after the first. The pauses are random, between nothing and a bound that doubles
    from ``first_backoff_seconds`` to ``max_backoff_seconds``; a ``Retry-After`` of the service
    comes on top. Raises ValueError for numbers out of bounds.
    """

    max_attempts: int = 6
    max_seconds: float = 60.0
    first_backoff_seconds: float = 0.25
    max_backoff_seconds: float = 10.0

    def __post_init__(self) -> None:
        if not 1 <= self.max_attempts <= MAX_ATTEMPTS:
            raise ValueError(f"max_attempts: must be 1 to {MAX_ATTEMPTS}")
        if not 0 <= self.max_seconds <= MAX_RETRY_SECONDS:
            raise ValueError(f"max_seconds: must be 0 to {MAX_RETRY_SECONDS:g}")
        if not 0 <= self.first_backoff_seconds <= self.max_backoff_seconds:
            raise ValueError("first_backoff_seconds: must be 0 to max_backoff_seconds")

    def pause_seconds(self, attempts: int, retry_after_seconds: float | None) -> float:
        """Return the pause after that many attempts."""
        backoff = min(self.max_backoff_seconds, self.first_backoff_seconds * 2 ** (attempts - 1))
        jittered = random.uniform(0, backoff)  # noqa: S311 - only keeps clients apart
        return jittered + (retry_after_seconds or 0.0)


DEFAULT_RETRIES: Final = Retries()
