"""Shared rates: who asks the store, who does not, and who answers when it is away."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Final
from uuid import UUID

import pytest
from msgspec import structs

from core.access import shared_rates
from core.access.rate_limits import OwnBuckets, RateLimiter
from core.access.shared_rates import (
    MAX_WAIT_SECONDS,
    PROBE,
    Charge,
    Charged,
    SharedRates,
    StoreAwayError,
)
from core.counters import Counters
from core.errors import IngestError
from core.models import Budget, Caller
from tests.support.manual_time import ManualTime
from tests.support.strategies import CALLER
from tests.support.waiting import WAIT_SECONDS, eventually, turns

pytestmark = pytest.mark.anyio

KEY: Final = structs.replace(CALLER, key_requests_per_second=4, organization_requests_per_second=6)


class ScriptedStore:
    """A store in memory, whose answers wait for a gate, and which can fail."""

    def __init__(self, time: ManualTime) -> None:
        self._time = time
        self.buckets = OwnBuckets()
        self.calls: list[Sequence[Charge]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.problem: str | None = None
        self.opened = 0

    async def open(self) -> None:
        self.opened += 1

    async def charge(self, charges: Sequence[Charge]) -> Sequence[Charged]:
        if charges != [PROBE]:
            self.calls.append(charges)
        await self.gate.wait()
        if self.problem is not None:
            raise StoreAwayError(self.problem)
        return [self._charged(one) for one in charges]

    def _charged(self, one: Charge) -> Charged:
        now, buckets = self._time.clock.monotonic(), self.buckets
        tokens = [
            buckets.fill(one.key_id, one.key_rate, now),
            buckets.fill(one.organization_id, one.organization_rate, now),
        ]
        granted = min(one.wanted, *map(int, tokens))
        left = [held - granted for held in tokens]
        buckets.put(one.key_id, left[0])
        buckets.put(one.organization_id, left[1])
        return Charged(granted, *left)

    async def close(self) -> None:
        pass


class Service:
    """A service's rate limits on a store."""

    def __init__(self, store: ScriptedStore, time: ManualTime) -> None:
        self.store = store
        self.counters = Counters()
        buckets = OwnBuckets()
        self.rates = SharedRates(store, buckets, time.clock, self.counters)
        self.limiter = RateLimiter(time.clock, buckets, self.rates)

    async def charge(self, caller: Caller = KEY) -> Budget:
        return await self.limiter.charge_everywhere(caller)

    async def code(self, caller: Caller = KEY) -> str | None:
        try:
            await self.charge(caller)
        except IngestError as error:
            return error.code
        return None

    def value(self, series: str) -> float:
        return self.counters.registry.get_sample_value(series) or 0.0


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that a test keeps waiting is not away, however busy the machine is."""
    monkeypatch.setattr(shared_rates, "MAX_WAIT_SECONDS", WAIT_SECONDS)


@pytest.fixture
def time() -> ManualTime:
    return ManualTime()


@pytest.fixture
def store(time: ManualTime) -> ScriptedStore:
    return ScriptedStore(time)


@contextlib.asynccontextmanager
async def running(store: ScriptedStore, time: ManualTime) -> AsyncIterator[Service]:
    service = Service(store, time)
    await service.rates.open()
    run = asyncio.create_task(service.rates.run())
    try:
        yield service
    finally:
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)


@pytest.fixture
async def service(store: ScriptedStore, time: ManualTime) -> AsyncIterator[Service]:
    async with running(store, time) as service:
        yield service


async def test_services_have_a_limit_together(
    store: ScriptedStore, time: ManualTime, service: Service
) -> None:
    async with running(store, time) as other:
        codes = [await one.code() for _ in range(4) for one in (service, other)]
        assert codes == [None] * 4 + ["rate_limited"] * 4
        time.advance(0.25)
        assert [await other.code(), await service.code()] == [None, "rate_limited"]


async def test_requests_of_a_key_are_charged_in_one_call_in_their_order(
    store: ScriptedStore, service: Service
) -> None:
    store.gate.clear()
    first = asyncio.create_task(service.charge())
    await eventually(lambda: len(store.calls) == 1, "the first call is under way")
    others = [asyncio.create_task(service.charge()) for _ in range(3)]
    await turns(3)
    store.gate.set()
    budgets = await asyncio.gather(first, *others)
    assert [budget.remaining for budget in budgets] == [3, 2, 1, 0]
    assert [[one.wanted for one in call] for call in store.calls] == [[1], [3]]


async def test_a_caller_known_to_be_over_is_refused_without_a_call(
    store: ScriptedStore, time: ManualTime, service: Service
) -> None:
    async with running(store, time) as other:
        for _ in range(4):
            await other.charge()
    assert await service.code() == "rate_limited"  # it has to ask for that
    asked = len(store.calls)
    for _ in range(50):
        assert await service.code() == "rate_limited"
    assert len(store.calls) == asked
    time.advance(0.25)
    assert await service.code() is None


async def test_the_refusal_tells_what_the_store_holds(
    store: ScriptedStore, time: ManualTime, service: Service
) -> None:
    other_key = structs.replace(KEY, key_id=UUID(int=9))
    async with running(store, time) as other:
        for caller in (KEY, KEY, KEY, other_key, other_key, other_key):
            await other.charge(caller)
    with pytest.raises(IngestError, match="organization's rate limit of 6") as refused:
        await service.charge()
    assert refused.value.budget == Budget(limit=4, remaining=1)
    assert refused.value.retry_after_seconds == pytest.approx(1 / 6)


async def test_a_request_that_is_given_up_takes_nothing_from_its_neighbours(
    store: ScriptedStore, service: Service
) -> None:
    store.gate.clear()
    tasks = [asyncio.create_task(service.charge()) for _ in range(3)]
    await eventually(lambda: bool(store.calls), "they wait for one call")
    tasks[1].cancel()
    await turns(2)
    store.gate.set()
    assert (await tasks[0]).remaining == 3
    assert (await tasks[2]).remaining == 1


async def test_a_store_that_fails_is_away_until_it_answers(
    store: ScriptedStore,
    service: Service,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(shared_rates, "RETRY_SECONDS", 0.0)
    caplog.set_level(logging.INFO)
    store.problem = "out of order"
    assert [await service.code() for _ in range(6)] == [None] * 4 + ["rate_limited"] * 2
    assert len(store.calls) == 1
    assert service.value("wepeople_rate_store_away") == 1
    assert service.value("wepeople_rate_store_losses_total") == 1
    await eventually(lambda: store.opened > 3, "it is tried again")
    store.problem = None
    await eventually(lambda: not service.value("wepeople_rate_store_away"), "it is back")
    assert service.value("wepeople_rate_store_losses_total") == 1
    lost, found = (record.getMessage() for record in caplog.records)
    assert lost.endswith("out of order")
    assert found.startswith("the store of rates answers")


async def test_the_own_count_goes_on_from_the_last_answer(
    store: ScriptedStore, time: ManualTime, service: Service
) -> None:
    async with running(store, time) as other:
        for _ in range(2):
            await other.charge()
    await service.charge()  # the third of four
    store.problem = "out of order"
    assert [await service.code() for _ in range(2)] == [None, "rate_limited"]


async def test_a_store_that_hangs_is_waited_for_a_moment_only(
    store: ScriptedStore, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_rates, "MAX_WAIT_SECONDS", MAX_WAIT_SECONDS)
    store.gate.clear()
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.timeout(10):
        budgets = await asyncio.gather(*(service.charge() for _ in range(4)))
    assert loop.time() - began >= MAX_WAIT_SECONDS * 0.9
    assert sorted(budget.remaining for budget in budgets) == [0, 1, 2, 3]
    assert await service.code() == "rate_limited"


async def test_an_answer_that_came_while_the_loop_was_busy_is_in_time(
    store: ScriptedStore, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    for bound in ("MAX_WAIT_SECONDS", "MIN_CALL_SECONDS"):
        monkeypatch.setattr(shared_rates, bound, 0.0)
    assert (await service.charge()).remaining == 3
    assert service.value("wepeople_rate_store_losses_total") == 0


async def test_a_key_more_than_a_call_may_have_is_charged_by_the_own_count(
    store: ScriptedStore, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_rates, "MAX_KEYS_A_CALL", 2)
    store.gate.clear()
    keys = [structs.replace(KEY, key_id=UUID(int=number)) for number in range(3)]
    tasks = [asyncio.create_task(service.charge(key)) for key in keys]
    assert (await tasks[2]).remaining == 3
    assert not tasks[0].done()
    store.gate.set()
    await asyncio.gather(*tasks)


async def test_nobody_waits_any_more_when_it_stops(store: ScriptedStore, time: ManualTime) -> None:
    store.gate.set()
    async with running(store, time) as service:
        store.gate.clear()
        tasks = [asyncio.create_task(service.charge()) for _ in range(2)]
        await eventually(lambda: bool(store.calls), "they wait")
        tasks.append(asyncio.create_task(service.charge()))
        await turns(2)
    assert sorted([(await task).remaining for task in tasks]) == [1, 2, 3]
    assert (await service.charge()).remaining == 0
