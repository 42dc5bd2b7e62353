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

from tests.support.http_driver import HttpDriver
from tests.support.redis_server import NEEDS_REDIS, RedisServer, redis_server
from tests.support.running_service import RunningService
from tests.support.service_process import ServiceProcess
from tests.support.tenant import Tenant, make_tenant
from tests.support.waiting import eventually

pytestmark = [pytest.mark.anyio, NEEDS_REDIS]

SERVICES: Final = 3
LIMIT: Final = 30  # requests a second
OFFERED: Final = 10 * LIMIT
MAX_DEVIATION: Final = 0.1
SECONDS: Final = 3.0
FALL_BACK_SECONDS: Final = 0.1


@pytest.fixture
def store() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


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


class Load(NamedTuple):
    """The codes of the answers, and the seconds from the first request to the last answer."""

    codes: list[str | None]
    began: float

    def check_limit(self) -> None:
        """Accepted were as many as the limit has it, and no request failed."""
        assert set(self.codes) == {None, "rate_limited"}
        accepted = self.codes.count(None)
        due = LIMIT * (1 + time.monotonic() - self.began)
        assert accepted == pytest.approx(due, rel=MAX_DEVIATION), f"{accepted} of {due:.0f}"


@contextlib.asynccontextmanager
async def load(services: list[HttpDriver], tenant: Tenant) -> AsyncIterator[Load]:
    """Within the block ``OFFERED`` requests a second of the tenant's key, over all services."""
    offered = Load([], time.monotonic())

    async def send(driver: HttpDriver) -> None:
        offered.codes.append((await driver.ping(tenant.key)).code)

    async def offer() -> None:
        async with asyncio.TaskGroup() as requests:
            for number in itertools.count():
                requests.create_task(send(services[number % len(services)]))
                pause = offered.began + number / OFFERED - time.monotonic()
                await asyncio.sleep(max(pause, 0))

    offering = asyncio.create_task(offer())
    try:
        yield offered
    finally:
        offering.cancel()
        with contextlib.suppress(asyncio.CancelledError):
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


async def test_three_services_let_a_key_through_at_its_limit(
    services: list[HttpDriver], tenant: Tenant
) -> None:
    async with load(services, tenant) as offered:
        await asyncio.sleep(SECONDS)
        offered.check_limit()


async def test_a_store_that_is_killed_fails_no_request_and_is_used_again_once_it_is_back(
    services: list[HttpDriver],
    tenant: Tenant,
    store: RedisServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "core.access.shared_rates")
    async with load(services, tenant) as offered:
        await eventually(lambda: "rate_limited" in offered.codes, "the limit is reached")
        store.kill()
        await until_away(services, SERVICES)
        accepted = offered.codes.count(None)
        await eventually(lambda: offered.codes.count(None) > accepted + LIMIT, "it goes on")
        store.start()
        await until_away(services, 0)
    assert set(offered.codes) == {None, "rate_limited"}
    told = [record.getMessage() for record in caplog.records]
    lost = [line for line in told if line.startswith("the store of rates is away")]
    assert len(lost) == await total(services, "wepeople_rate_store_losses_total")
    assert SERVICES <= len(lost) < len(offered.codes) / 10, "not a line for each request"
    fresh = await tenant.another_key(requests_per_second=LIMIT)
    async with load(services, fresh) as again:
        await asyncio.sleep(SECONDS)
        again.check_limit()


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
    settings = {"DATABASE_URL": database_url, "WEPEOPLE_RATE_STORE": store.url}
    several = ServiceProcess(tmp_path, server_processes=2, **settings)
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
    assert set(codes) == {None, "rate_limited"}
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
