"""Rate limits: both buckets are charged together or not at all."""

from __future__ import annotations

from uuid import UUID

import pytest
from msgspec import structs

from core.access import rate_limits
from core.access.rate_limits import OwnBuckets, RateLimiter
from core.errors import IngestError
from core.models import Budget, Caller
from tests.support.manual_time import ManualTime
from tests.support.strategies import CALLER

RATE = 10
SLOW_KEY = structs.replace(CALLER, key_requests_per_second=2, organization_requests_per_second=3)


def refusal(limiter: RateLimiter, caller: Caller) -> IngestError:
    with pytest.raises(IngestError) as caught:
        limiter.charge(caller)
    assert caught.value.code == "rate_limited"
    return caught.value


def test_a_burst_is_what_refills_in_a_second() -> None:
    time = ManualTime()
    limiter = RateLimiter(time.clock, OwnBuckets())
    assert [limiter.charge(SLOW_KEY).remaining for _ in range(2)] == [1, 0]
    error = refusal(limiter, SLOW_KEY)
    assert "key" in error.message
    assert error.retry_after_seconds == 0.5
    assert error.budget == Budget(limit=2, remaining=0)
    time.advance(0.5)
    assert limiter.charge(SLOW_KEY).remaining == 0
    time.advance(60)
    assert limiter.budget(SLOW_KEY) == Budget(limit=2, remaining=2)


def test_a_refused_request_takes_no_token_of_either() -> None:
    time = ManualTime()
    limiter = RateLimiter(time.clock, OwnBuckets())
    other_key = structs.replace(SLOW_KEY, key_id=UUID(int=9))
    limiter.charge(SLOW_KEY)
    limiter.charge(SLOW_KEY)
    for _ in range(5):
        refusal(limiter, SLOW_KEY)  # of the organization's three, one is left
    limiter.charge(other_key)
    error = refusal(limiter, other_key)
    assert "organization" in error.message
    assert limiter.budget(other_key) == Budget(limit=2, remaining=1)


def test_a_lower_rate_is_in_force_at_once() -> None:
    buckets, owner = OwnBuckets(), UUID(int=5)
    assert buckets.fill(owner, RATE, 100.0) == RATE
    assert buckets.fill(owner, 3, 100.0) == 3


def test_a_clock_that_was_read_before_takes_nothing_away() -> None:
    buckets, owner = OwnBuckets(), UUID(int=5)
    buckets.fill(owner, RATE, 100.0)
    buckets.take(owner)
    assert buckets.fill(owner, RATE, 99.0) == RATE - 1


def test_the_bucket_longest_unused_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "MAX_BUCKETS", 2)
    buckets = OwnBuckets()
    first, second, third = (UUID(int=number) for number in range(3))
    for owner in (first, second, first, third):
        buckets.fill(owner, RATE, 100.0)
        buckets.take(owner)
    assert buckets.fill(first, RATE, 100.0) == RATE - 2
    assert buckets.fill(second, RATE, 100.0) == RATE
