"""Token buckets: one per key, one per organization, charged together or not at all."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final
from uuid import UUID

from core.clock import Clock
from core.errors import ErrorCode, IngestError
from core.events import Budget, Caller

BURST_SECONDS: Final = 1.0  # a bucket holds what refills in this time
MAX_BUCKETS: Final = 100_000


class _Bucket:
    __slots__ = ("tokens", "updated")

    def __init__(self, tokens: float, updated: float) -> None:
        self.tokens = tokens
        self.updated = updated

    def refill(self, rate: int, now: float) -> float:
        """Bring the bucket to ``now``, under the rate in force now, and tell what it holds."""
        capacity = rate * BURST_SECONDS
        self.tokens = min(capacity, self.tokens + (now - self.updated) * rate)
        self.updated = now
        return self.tokens


class RateLimiter:
    """The request rates of this process's callers.

    A bucket that nobody touched for a second is full again, so the oldest ones can be forgotten:
    memory is bounded by ``MAX_BUCKETS`` without loosening a limit.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: OrderedDict[UUID, _Bucket] = OrderedDict()

    def charge(self, caller: Caller) -> Budget:
        """Take one token from the key and one from the organization; the key's budget is left.

        Raises ``rate_limited``, taking neither, when either is used up: with the seconds until
        both have a token, and whose limit it was (contract section 2).
        """
        now = self._clock.monotonic()
        key_rate = caller.key_requests_per_second
        organization_rate = caller.organization_requests_per_second
        key = self._bucket(caller.key_id, key_rate, now)
        organization = self._bucket(caller.organization_id, organization_rate, now)
        key_tokens = key.refill(key_rate, now)
        organization_tokens = organization.refill(organization_rate, now)
        if key_tokens >= 1 and organization_tokens >= 1:
            key.tokens -= 1
            organization.tokens -= 1
            return Budget(limit=key_rate, remaining=int(key.tokens))
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
        now = self._clock.monotonic()
        bucket = self._bucket(caller.key_id, rate, now)
        return Budget(limit=rate, remaining=int(bucket.refill(rate, now)))

    def _bucket(self, owner: UUID, rate: int, now: float) -> _Bucket:
        buckets = self._buckets
        bucket = buckets.get(owner)
        if bucket is None:
            bucket = buckets[owner] = _Bucket(rate * BURST_SECONDS, now)
            while len(buckets) > MAX_BUCKETS:
                buckets.popitem(last=False)
        else:
            buckets.move_to_end(owner)
        return bucket
