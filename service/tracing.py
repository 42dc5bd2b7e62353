"""Traces, if the operator wants them: what turns them on, and how they end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import AsyncIterator, Callable
from importlib.metadata import version
from typing import Final

from core.tracing import Tracer
from service.metrics import DISTRIBUTION
from service.settings import Settings

log = logging.getLogger(__name__)

FLUSH_SECONDS: Final = 3.0  # that the end of the service waits for spans to be exported
PROTOCOL: Final = "http/protobuf"


@contextlib.asynccontextmanager
async def tracing(settings: Settings) -> AsyncIterator[Tracer | None]:
    """A tracer for the block, None unless traces are on; its last spans are exported at the end.

    Traces that cannot be sent are warned of: the service does not need them.
    """
    endpoint = settings.otlp_endpoint
    if endpoint is None or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        yield None
        return
    for variable in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if os.environ.get(variable, PROTOCOL) != PROTOCOL:
            log.warning("no traces are sent: %s must be %s", variable, PROTOCOL)
            yield None
            return
    try:
        from service.spans import otlp_tracer
    except ModuleNotFoundError as error:
        log.warning("no traces are sent: install wepeople-ingest[otel] (%s)", error)
        yield None
        return
    tracer = otlp_tracer(endpoint, version(DISTRIBUTION))
    try:
        yield tracer
    finally:
        if not await _finished(tracer.shut_down, FLUSH_SECONDS):
            log.warning("the last traces were not exported within %g s", FLUSH_SECONDS)
            tracer.give_up()


async def _finished(work: Callable[[], None], seconds: float) -> bool:
    """Whether blocking work is done within ``seconds``; it is not waited for longer.

    In a daemon thread: the end of the process would wait for one of the loop's own.
    """
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def run() -> None:
        work()
        with contextlib.suppress(RuntimeError):  # nobody waits any more, and the loop is closed
            loop.call_soon_threadsafe(done.set)

    threading.Thread(target=run, name="traces", daemon=True).start()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await done.wait()
    return done.is_set()
