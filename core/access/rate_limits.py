"""Token buckets: one per key, one per organization, charged together or not at all."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import AbstractContextManager, nullcontext
from typing import Final, Protocol
from uuid import UUID

from core.clock import Clock
from core.error_codes import ErrorCode
from core.errors import IngestError
from core.models import Budget, Caller

BURST_SECONDS: Final = 1.0  # a bucket holds what refills in this time
MAX_BUCKETS: Final = 100_000


class Buckets(Protocol):
    """The buckets, full when they are first asked for."""

    def held(self) -> AbstractContextManager[object]:
        """Have the buckets to oneself within the block."""

    def fill(self, owner: UUID, rate: int, now: float) -> float:
        """Bring the bucket to ``now``, under the rate in force now, and tell what it holds."""

    def take(self, owner: UUID) -> None:
        """Take a token from a bucket that was just filled."""


class OwnBuckets:
    """The buckets of one process.

    A bucket that nobody touched for a second is full again, so the oldest ones can be forgotten:
    memory is bounded by ``MAX_BUCKETS`` without loosening a limit.
    """

    def __init__(self) -> None:
        self._buckets: OrderedDict[UUID, list[float]] = OrderedDict()  # tokens, when updated
        self._held = nullcontext()

    def held(self) -> AbstractContextManager[object]:
        """Nothing to wait for: a process has one loop."""
        return self._held

    def fill(self, owner: UUID, rate: int, now: float) -> float:
        """See :meth:`Buckets.fill`."""
        buckets = self._buckets
        bucket = buckets.get(owner)
        if bucket is None:
            buckets[owner] = [rate * BURST_SECONDS, now]
            while len(buckets) > MAX_BUCKETS:
                buckets.popitem(last=False)
            return rate * BURST_SECONDS
        buckets.move_to_end(owner)
        bucket[0] = refilled(bucket[0], bucket[1], rate, now)
        bucket[1] = now
        return bucket[0]

    def take(self, owner: UUID) -> None:
        """See :meth:`Buckets.take`."""
        self._buckets[owner][0] -= 1


def refilled(tokens: float, updated: float, rate: int, now: float) -> float:
    """The tokens of a bucket ``now`` that held ``tokens`` when it was ``updated``."""
    if now > updated:  # clocks of processes are read in one order and buckets are had in another
        tokens += (now - updated) * rate
    full = rate * BURST_SECONDS
    return min(full, tokens)


class RateLimiter:
    """The request rates of callers, by the tokens in ``buckets``."""

    def __init__(self, clock: Clock, buckets: Buckets) -> None:
        self._clock = clock
        self._buckets = buckets

    def charge(self, caller: Caller) -> Budget:
        """Take one token from the key and one from the organization; the key's budget is left.

        Raises ``rate_limited``, taking neither, when either is used up: with the seconds until
        both have a token, and whose limit it was (contract section 2).
        """
        now = self._clock.monotonic()
        key_rate = caller.key_requests_per_second
        organization_rate = caller.organization_requests_per_second
        buckets = self._buckets
        with buckets.held():
            key_tokens = buckets.fill(caller.key_id, key_rate, now)
            organization_tokens = buckets.fill(caller.organization_id, organization_rate, now)
            if key_tokens >= 1 and organization_tokens >= 1:
                buckets.take(caller.key_id)
                buckets.take(caller.organization_id)
                return Budget(limit=key_rate, remaining=int(key_tokens - 1))
        whose, rate = ("key", key_rate) if key_tokens < 1 else ("organization", organization_rate)
        raise IngestError(
            ErrorCode.RATE_LIMITED,
            f"The {whose}'s rate limit of {rate} requests per second is exceeded.",
            retry_after_seconds=max(
                (1 - key_tokens) / key_rate, (1 - organization_tokens) / organization_rate
            ),
            budget=Budget(limit=key_rate, remaining=int(key_tokens)),
        )

    def budget(self, caller: Caller) -> Budget:
        """The key's budget, of which nothing is taken."""
        rate = caller.key_requests_per_second
        with self._buckets.held():
            tokens = self._buckets.fill(caller.key_id, rate, self._clock.monotonic())
        return Budget(limit=rate, remaining=int(tokens))
