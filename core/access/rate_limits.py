"""Rate limits: a token bucket for each key and each organization (contract section 2).

Both are charged together or not at all.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import AbstractContextManager, nullcontext
from typing import Final, Protocol
from uuid import UUID

from core.clock import Clock
from core.error_codes import ErrorCode
from core.errors import IngestError
from core.models import Budget, Caller

BURST_SECONDS: Final = 1.0  # a full bucket holds the tokens that refill in this time
MAX_BUCKETS: Final = 100_000


class Buckets(Protocol):
    """Token buckets by owner. A bucket is full when it is first filled."""

    def exclusive(self) -> AbstractContextManager[object]:
        """A block in which nobody else changes the buckets."""

    def fill(self, owner: UUID, rate: int, now: float) -> float:
        """Refill the bucket up to ``now`` (monotonic seconds); returns the tokens it holds.

        ``rate``: tokens a second, as it is in force now.
        """

    def take(self, owner: UUID) -> None:
        """Take a token from a bucket that was filled in the same exclusive block."""

    def put(self, owner: UUID, tokens: float) -> None:
        """Replace the tokens of a bucket that was filled in the same exclusive block."""


class OwnBuckets:
    """``Buckets`` of a single process, at most ``MAX_BUCKETS``.

    The bucket that was unused for longest makes room for a new one. A bucket that was unused for
    ``BURST_SECONDS`` is full anyway, so forgetting it loosens no limit.
    """

    def __init__(self) -> None:
        # Tokens, and when they were updated, by the integer of the id, which is hashed in C.
        self._buckets: OrderedDict[int, list[float]] = OrderedDict()
        self._exclusive = nullcontext()

    def exclusive(self) -> AbstractContextManager[object]:
        """As :meth:`Buckets.exclusive`, without a lock: the block does not await."""
        return self._exclusive

    def fill(self, owner: UUID, rate: int, now: float) -> float:
        """As :meth:`Buckets.fill`."""
        buckets, key = self._buckets, owner.int
        bucket = buckets.get(key)
        if bucket is None:
            buckets[key] = [rate * BURST_SECONDS, now]
            while len(buckets) > MAX_BUCKETS:
                buckets.popitem(last=False)
            return rate * BURST_SECONDS
        buckets.move_to_end(key)
        bucket[0] = refilled(bucket[0], bucket[1], rate, now)
        bucket[1] = now
        return bucket[0]

    def take(self, owner: UUID) -> None:
        """As :meth:`Buckets.take`."""
        self._buckets[owner.int][0] -= 1

    def put(self, owner: UUID, tokens: float) -> None:
        """As :meth:`Buckets.put`."""
        self._buckets[owner.int][0] = tokens


def refilled(tokens: float, updated: float, rate: int, now: float) -> float:
    """The tokens in a bucket ``now`` that held ``tokens`` at ``updated`` (monotonic seconds)."""
    if now > updated:  # else another process read its clock later but had the bucket first
        tokens += (now - updated) * rate
    return min(rate * BURST_SECONDS, tokens)


def exceeded(caller: Caller, key_tokens: float, organization_tokens: float) -> IngestError:
    """The ``rate_limited`` of a caller whose buckets hold these tokens, one of them less than one.

    It says whose limit it was and after how many seconds both have a token.
    """
    key_rate = caller.key_requests_per_second
    organization_rate = caller.organization_requests_per_second
    whose, rate = ("key", key_rate) if key_tokens < 1 else ("organization", organization_rate)
    return IngestError(
        ErrorCode.RATE_LIMITED,
        f"The {whose}'s rate limit of {rate} requests per second is exceeded.",
        retry_after_seconds=max(
            (1 - key_tokens) / key_rate, (1 - organization_tokens) / organization_rate
        ),
        budget=Budget(limit=key_rate, remaining=int(key_tokens)),
    )


class SharedCount(Protocol):
    """A count of requests that several services share."""

    async def charge(self, caller: Caller, own: Budget) -> Budget:
        """Charge a request that the service's own buckets have been charged for, to ``own``.

        Raises as :meth:`RateLimiter.charge`.
        """


class RateLimiter:
    """Holds callers to the request rates of their key and their organization.

    ``buckets`` are this service's; ``shared`` counts for other services as well, if there is one.
    """

    def __init__(self, clock: Clock, buckets: Buckets, shared: SharedCount | None = None) -> None:
        self._clock = clock
        self._buckets = buckets
        self._shared = shared

    def charge(self, caller: Caller) -> Budget:
        """Take a token from the key and one from the organization; returns the key's budget.

        Raises ``rate_limited`` (:func:`exceeded`) if either has none, and takes neither then.
        """
        now = self._clock.monotonic()
        key_rate = caller.key_requests_per_second
        organization_rate = caller.organization_requests_per_second
        buckets = self._buckets
        with buckets.exclusive():
            key_tokens = buckets.fill(caller.key_id, key_rate, now)
            organization_tokens = buckets.fill(caller.organization_id, organization_rate, now)
            if key_tokens >= 1 and organization_tokens >= 1:
                buckets.take(caller.key_id)
                buckets.take(caller.organization_id)
                return Budget(limit=key_rate, remaining=int(key_tokens - 1))
        raise exceeded(caller, key_tokens, organization_tokens)

    async def charge_everywhere(self, caller: Caller) -> Budget:
        """As :meth:`charge`, and in the count that services share; without one nothing waits."""
        own = self.charge(caller)
        return own if self._shared is None else await self._shared.charge(caller, own)

    def budget(self, caller: Caller) -> Budget:
        """The key's budget; takes nothing from it."""
        rate = caller.key_requests_per_second
        with self._buckets.exclusive():
            tokens = self._buckets.fill(caller.key_id, rate, self._clock.monotonic())
        return Budget(limit=rate, remaining=int(tokens))
