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

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while await reader.read(65_536):
                pass
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()


async def milliseconds(http: HttpDriver, tenant: Tenant) -> list[float]:
    taken = []
    for _ in range(REQUESTS // 4):
        begin = time.perf_counter()
        assert (await http.ingest(tenant.key, [event()])).code is None
        taken.append((time.perf_counter() - begin) * 1_000)
    return taken


@has_otel
@pytest.mark.alone
async def test_a_collector_that_is_away_costs_requests_nothing(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "16")  # so that it exports all the time
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "32")  # and is full soon
    tenant = await make_tenant(database_url)
    async with silent_collector() as endpoint:
        with contextlib.ExitStack() as stack:
            plain, silent, refused = (
                HttpDriver(stack.enter_context(service).addresses.http)
                for service in (
                    RunningService(database_url),
                    RunningService(database_url, otlp_endpoint=endpoint),
                    RunningService(database_url, otlp_endpoint="http://127.0.0.1:1"),
                )
            )
            drivers = (plain, silent, refused)
            for driver in drivers:
                await milliseconds(driver, tenant)  # warm
            taken: dict[HttpDriver, list[float]] = {driver: [] for driver in drivers}
            for _ in range(4):
                for driver in drivers:
                    taken[driver] += await milliseconds(driver, tenant)
            for driver in drivers:
                await driver.close()
            usual, *others = (statistics.median(taken[driver]) for driver in drivers)
            for other in others:
                assert other < 2 * usual + 1, "milliseconds"
            begin = time.monotonic()
            await asyncio.to_thread(stack.close)
            assert time.monotonic() - begin < 2 * FLUSH_SECONDS + 5
