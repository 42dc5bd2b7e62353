"""Three services count the rates of a key in one store, which is killed and stopped under load."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import re
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from pydantic import SecretStr

from core.access import shared_rates
from tests.support.http_driver import HttpDriver
from tests.support.redis_server import NEEDS_REDIS, RedisServer, redis_server
from tests.support.running_service import RunningService
from tests.support.service_process import ServiceProcess
from tests.support.tenant import Tenant, make_tenant
from tests.support.waiting import WAIT_SECONDS, eventually

pytestmark = [pytest.mark.anyio, NEEDS_REDIS]

SERVICES: Final = 3
LIMIT: Final = 30  # requests a second
OFFERED: Final = 10 * LIMIT
MAX_DEVIATION: Final = 0.1
SECONDS: Final = 3.0
MAX_PAUSE_SECONDS: Final = 0.5
PATIENCE_SECONDS: Final = 60.0
FALL_BACK_SECONDS: Final = 0.1


@pytest.fixture
def store() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is slow on a busy machine is not away, and no service counts alone."""
    monkeypatch.setattr(shared_rates, "MAX_WAIT_SECONDS", WAIT_SECONDS)


@pytest.fixture
async def services(database_url: str, store: RedisServer) -> AsyncIterator[list[HttpDriver]]:
    with contextlib.ExitStack() as stack:
        drivers = []
        for _ in range(SERVICES):
            service = RunningService(database_url, rate_store=SecretStr(store.url))
            drivers.append(HttpDriver(stack.enter_context(service).addresses.http))
        yield drivers
        for driver in drivers:
            await driver.close()


@pytest.fixture
async def tenant(database_url: str) -> Tenant:
    return await make_tenant(database_url, key_requests_per_second=LIMIT)


class Answer(NamedTuple):
    """An answer; its request was charged at some time between both."""

    sent_at: float
    answered_at: float
    code: str | None


class Load:
    """Requests of a key over all services, ``OFFERED`` a second, and their answers."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []

    async def send(self, driver: HttpDriver, tenant: Tenant) -> None:
        sent_at = time.monotonic()
        code = (await driver.ping(tenant.key)).code
        self.answers.append(Answer(sent_at, time.monotonic(), code))

    def codes(self) -> list[str | None]:
        return [answer.code for answer in self.answers]

    async def used_up(self) -> float:
        """Wait until a request is refused; the time then."""
        await eventually(lambda: "rate_limited" in self.codes(), "the limit is reached")
        return time.monotonic()

    async def used_throughout(self) -> tuple[float, float]:
        """Wait for ``SECONDS`` in which the limit was used up again and again; their two ends.

        A bucket that nobody asks for a second, on a busy machine, is full, and has lost tokens.
        """
        begin = await self.used_up()
        deadline = begin + PATIENCE_SECONDS
        while True:
            await asyncio.sleep(SECONDS)
            end = time.monotonic()
            refused = (one.answered_at for one in self.answers if one.code is not None)
            moments = [begin, *sorted(at for at in refused if begin < at < end), end]
            pauses = [later - earlier for earlier, later in itertools.pairwise(moments)]
            if max(pauses) < MAX_PAUSE_SECONDS:
                return begin, end
            assert end < deadline, "the machine is too busy to use the limit up"
            begin = end

    def check_limit(self, begin: float, end: float) -> None:
        """As many were accepted in that time as the limit has it, and no request failed."""
        assert set(self.codes()) == {None, "rate_limited"}
        accepted = [answer for answer in self.answers if answer.code is None]
        least = sum(begin <= one.sent_at and one.answered_at <= end for one in accepted)
        most = sum(begin <= one.answered_at and one.sent_at <= end for one in accepted)
        due = LIMIT * (end - begin)
        assert least <= (1 + MAX_DEVIATION) * due
        assert most >= (1 - MAX_DEVIATION) * due


@contextlib.asynccontextmanager
async def load(services: list[HttpDriver], tenant: Tenant) -> AsyncIterator[Load]:
    """The load, until the block ends; every request has its answer then."""
    offered, done, began = Load(), asyncio.Event(), time.monotonic()

    async def offer() -> None:
        async with asyncio.TaskGroup() as requests:
            for number in itertools.count():
                if done.is_set():
                    return
                requests.create_task(offered.send(services[number % len(services)], tenant))
                pause = began + number / OFFERED - time.monotonic()
                await asyncio.sleep(max(pause, 0))

    offering = asyncio.create_task(offer())
    try:
        yield offered
    finally:
        done.set()
        await offering


async def value(driver: HttpDriver, series: str) -> float:
    """The value of a metric of a service."""
    page = (await driver.client.get("/metrics")).text
    match = re.search(rf"^{series} (\S+)$", page, re.MULTILINE)
    assert match is not None
    return float(match[1])


async def total(services: list[HttpDriver], series: str) -> float:
    return sum([await value(driver, series) for driver in services])


async def until_away(services: list[HttpDriver], count: int) -> None:
    async def told() -> bool:
        return await total(services, "wepeople_rate_store_away") == count

    await eventually(told, f"{count} services say that the store is away")


@pytest.mark.usefixtures("patient")
async def test_three_services_let_a_key_through_at_its_limit(
    services: list[HttpDriver], tenant: Tenant
) -> None:
    async with load(services, tenant) as offered:
        begin, end = await offered.used_throughout()
    offered.check_limit(begin, end)


@pytest.mark.usefixtures("patient")
async def test_a_store_that_is_killed_fails_no_request_and_is_used_again_once_it_is_back(
    services: list[HttpDriver],
    tenant: Tenant,
    store: RedisServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "core.access.shared_rates")
    async with load(services, tenant) as offered:
        await offered.used_up()
        store.kill()
        await until_away(services, SERVICES)
        accepted = offered.codes().count(None)
        await eventually(lambda: offered.codes().count(None) > accepted + LIMIT, "it goes on")
        store.start()
        await until_away(services, 0)
    assert set(offered.codes()) == {None, "rate_limited"}
    told = [record.getMessage() for record in caplog.records]
    lost = [line for line in told if line.startswith("the store of rates is away")]
    assert len(lost) == await total(services, "wepeople_rate_store_losses_total")
    assert SERVICES <= len(lost) < len(offered.answers) / 10, "not a line for each request"
    fresh = await tenant.another_key(requests_per_second=LIMIT)
    async with load(services, fresh) as again:
        begin, end = await again.used_throughout()
    again.check_limit(begin, end)


@pytest.mark.timed
async def test_a_store_that_hangs_holds_a_request_for_a_tenth_of_a_second_at_most(
    services: list[HttpDriver], tenant: Tenant, store: RedisServer
) -> None:
    async def seconds(driver: HttpDriver) -> float:
        began = time.monotonic()
        assert (await driver.ping(tenant.key)).code is None
        return time.monotonic() - began

    usual = max([await seconds(driver) for driver in services for _ in range(3)])
    with store.stopped():
        waits = [await seconds(driver) for driver in services]
        await until_away(services, SERVICES)
        # A busy machine only adds to it.
        assert min(waits) < FALL_BACK_SECONDS + usual
        assert max([await seconds(driver) for driver in services]) < 1
    await until_away(services, 0)


async def test_server_processes_count_with_another_service(
    database_url: str, tenant: Tenant, store: RedisServer, tmp_path: Path
) -> None:
    several = ServiceProcess(
        tmp_path, server_processes=2, DATABASE_URL=database_url, WEPEOPLE_RATE_STORE=store.url
    )
    try:
        several.start()
        with RunningService(database_url, rate_store=SecretStr(store.url)) as single:
            drivers = [HttpDriver(url) for url in (several.url, single.addresses.http)]
            began = time.monotonic()
            replies = await asyncio.gather(
                *(driver.ping(tenant.key) for driver in drivers for _ in range(2 * LIMIT))
            )
            most = LIMIT * (1 + time.monotonic() - began)
            for driver in drivers:
                await driver.close()
        several.terminate()
    finally:
        several.kill()
    codes = [reply.code for reply in replies]
    assert set(codes) <= {None, "rate_limited"}
    assert LIMIT <= codes.count(None) <= most


async def test_a_service_starts_without_its_store_and_finds_it_later(
    database_url: str, tenant: Tenant, store: RedisServer
) -> None:
    store.kill()
    with RunningService(database_url, rate_store=SecretStr(store.url)) as service:
        driver = HttpDriver(service.addresses.http)
        assert (await driver.ping(tenant.key)).code is None
        await until_away([driver], 1)
        store.start()
        await until_away([driver], 0)
        assert (await driver.ping(tenant.key)).code is None
        await driver.close()
