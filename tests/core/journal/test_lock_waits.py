"""Lock waits: the first request is tried until it gets through, and the others keep their order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import UUID

import pytest
from msgspec import structs

from core.journal.lock_waits import MAX_KEY_WAITS, LockWaits, still_locked
from core.journal.pending import PendingRequest
from core.journal.pending_events import PendingEvents
from core.models import Actor, Event, EventBatch
from tests.support.strategies import CALLER

pytestmark = pytest.mark.anyio

RECEIVED_US = 1_776_600_300_123_456
EVENT = Event("deal.won", "code", Actor(external_id="crm-user-1"))
ORGANIZATION = CALLER.organization_id


def pending(name: str, key: str | None = None) -> PendingEvents:
    """A request without an answer."""
    request = PendingEvents.check(CALLER, EventBatch(name, [EVENT], key), RECEIVED_US)
    request.answer = asyncio.get_running_loop().create_future()
    return request


class Locked:
    """A lock that is held until ``free``, and a note of everything that happens."""

    def __init__(self) -> None:
        self.free = asyncio.Event()
        self.tried: list[str] = []
        self.put_back: list[str] = []
        self.waits = LockWaits(self._write, self._put_back, asyncio.Semaphore(3))

    async def _write(self, request: PendingRequest) -> bool:
        self.tried.append(request.request_id)
        await self.free.wait()
        request.answer.cancel()
        return False

    def _put_back(self, requests: Sequence[PendingRequest]) -> None:
        self.put_back += [request.request_id for request in requests]


async def until_over(waits: LockWaits) -> None:
    """Let the loop run until no lock wait is left."""
    for _ in range(100):
        if not waits:
            return
        await asyncio.sleep(0)
    raise AssertionError("a lock wait is left")


async def test_the_others_return_in_their_order_once_the_first_gets_through() -> None:
    lock = Locked()
    for name in "abc":
        lock.waits.add(ORGANIZATION, pending(name))
    await asyncio.sleep(0)
    lock.free.set()
    await until_over(lock.waits)
    assert (lock.tried, lock.put_back) == (["a"], ["b", "c"])


async def test_a_request_joins_the_wait_of_its_key_before_that_of_its_organization() -> None:
    lock = Locked()
    first = pending("first", key="k")
    assert first.claim is not None
    assert lock.waits.key_of(first) is None
    lock.waits.add(first.claim.scope, first)
    assert lock.waits.key_of(pending("equal", key="k")) == first.claim.scope
    assert lock.waits.key_of(pending("other", key="l")) is None
    lock.waits.add(ORGANIZATION, pending("all"))
    assert lock.waits.key_of(pending("equal", key="k")) == first.claim.scope
    assert lock.waits.key_of(pending("other")) == ORGANIZATION
    lock.free.set()
    await until_over(lock.waits)


async def test_a_request_that_nobody_waits_for_leaves() -> None:
    lock = Locked()
    first, second = pending("a"), pending("b")
    for request in (first, second):
        lock.waits.add(ORGANIZATION, request)
    await asyncio.sleep(0)
    lock.waits.remove(second)
    lock.free.set()
    await until_over(lock.waits)
    assert not lock.put_back


async def test_so_many_keys_of_an_organization_are_searched_for_and_no_more() -> None:
    lock = Locked()
    for number in range(MAX_KEY_WAITS):
        assert lock.waits.may_search_keys(ORGANIZATION)
        request = pending("a", key=str(number))
        assert request.claim is not None
        lock.waits.add(request.claim.scope, request)
    assert not lock.waits.may_search_keys(ORGANIZATION)
    assert lock.waits.may_search_keys(UUID(int=1))
    lock.free.set()
    await until_over(lock.waits)


async def test_the_answer_names_the_key_or_the_organization() -> None:
    request = pending("a", key="k")
    assert request.claim is not None
    request.lock_wait = request.claim.scope
    assert "this Idempotency-Key is still being written" in still_locked(request).message
    request.lock_wait = ORGANIZATION
    assert "data of your organization" in still_locked(request).message
    assert still_locked(request).transient
    assert structs.asdict(CALLER)["organization_id"] == ORGANIZATION
