"""Traces are off unless they are asked for, and nobody waits for the collector."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator

import pytest

from service.settings import Settings
from service.tracing import FLUSH_SECONDS, tracing
from tests.support.http_driver import HttpDriver
from tests.support.running_service import RunningService
from tests.support.service_process import PROJECT
from tests.support.tenant import Tenant, event, make_tenant

pytestmark = pytest.mark.anyio

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
WITH_TRACES = Settings.from_environment({ENDPOINT: "http://127.0.0.1:1/"})
REFUSING = "http://127.0.0.1:1"
REQUESTS = 200
has_otel = pytest.mark.skipif(
    "not __import__('importlib.util').util.find_spec('opentelemetry')",
    reason="the extra otel is not installed",
)


async def test_they_are_off_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    async with tracing(Settings.from_environment({})) as tracer:
        assert tracer is None
    monkeypatch.setenv("OTEL_SDK_DISABLED", "TRUE")
    async with tracing(WITH_TRACES) as tracer:
        assert tracer is None


def test_a_service_without_traces_imports_nothing_for_them() -> None:
    program = "import service.cli.main, service.compose, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    loaded = done.stdout.split()
    assert "service.tracing" in loaded
    # FastAPI imports OpenTelemetry's interface where that is installed, and is told not to use it.
    unwanted = (
        "opentelemetry.sdk",
        "opentelemetry.exporter",
        "opentelemetry.proto",
        "service.spans",
    )
    assert [name for name in loaded if name.startswith(unwanted)] == []


async def test_without_the_extra_there_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delitem(sys.modules, "service.spans", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with caplog.at_level(logging.WARNING):
        async with tracing(WITH_TRACES) as tracer:
            assert tracer is None
    assert "wepeople-ingest[otel]" in caplog.text


async def test_another_protocol_is_not_spoken(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with caplog.at_level(logging.WARNING):
        async with tracing(WITH_TRACES) as tracer:
            assert tracer is None
    assert "OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf" in caplog.text


@contextlib.asynccontextmanager
async def silent_collector() -> AsyncIterator[str]:
    """A collector that takes everything and answers nothing."""
    taking: list[tuple[asyncio.Task[None] | None, asyncio.StreamWriter]] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taking.append((asyncio.current_task(), writer))
        with contextlib.suppress(OSError):
            while await reader.read(65_536):
                pass
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    for task, writer in taking:  # an exporter that was given up may still be there
        writer.close()
        assert task is not None
        await task


async def milliseconds(http: HttpDriver, tenant: Tenant) -> list[float]:
    taken = []
    for _ in range(REQUESTS // 4):
        begin = time.perf_counter()
        assert (await http.ingest(tenant.key, [event()])).code is None
        taken.append((time.perf_counter() - begin) * 1_000)
    return taken


@pytest.fixture
def full_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue of spans that are exported all the time, and that is full soon."""
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "16")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "32")


@has_otel
@pytest.mark.alone
async def test_a_collector_that_is_away_costs_requests_nothing(
    database_url: str, full_queue: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.tracing.FLUSH_SECONDS", 0.0)  # the end is another test's
    tenant = await make_tenant(database_url)
    async with silent_collector() as endpoint:
        with contextlib.ExitStack() as stack:
            drivers = plain, silent, refused = [
                HttpDriver(stack.enter_context(service).addresses.http)
                for service in (
                    RunningService(database_url),
                    RunningService(database_url, otlp_endpoint=endpoint),
                    RunningService(database_url, otlp_endpoint=REFUSING),
                )
            ]
            for driver in drivers:
                await milliseconds(driver, tenant)  # warm
            taken: dict[HttpDriver, list[float]] = {driver: [] for driver in drivers}
            for _ in range(4):
                for driver in drivers:
                    taken[driver] += await milliseconds(driver, tenant)
            for driver in drivers:
                await driver.close()
            usual = statistics.median(taken[plain])
            for other in (silent, refused):
                assert statistics.median(taken[other]) < 2 * usual + 1, "milliseconds"
            await asyncio.to_thread(stack.close)


@has_otel
@pytest.mark.timed
@pytest.mark.parametrize("is_silent", [True, False])
async def test_a_collector_that_is_away_is_not_waited_for_at_the_end(
    database_url: str, full_queue: None, is_silent: bool
) -> None:
    tenant = await make_tenant(database_url)
    async with silent_collector() as endpoint:
        away = endpoint if is_silent else REFUSING
        with RunningService(database_url, otlp_endpoint=away) as service:
            driver = HttpDriver(service.addresses.http)
            await milliseconds(driver, tenant)
            await driver.close()
            begin = time.monotonic()
            await asyncio.to_thread(service.stop)
            assert time.monotonic() - begin < FLUSH_SECONDS + 5
