"""A serving process around the service: its loop, its database, its signals, its readiness."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any, Final, NamedTuple, TypeVar

import uvloop
from psycopg import AsyncConnection

from core.access.api_keys import deployment_secret
from core.postgres.migrate import migrate
from core.postgres.sessions import logs_statements, session_conninfo
from service.demo import DemoKey, ensure_demo
from service.settings import Settings

log = logging.getLogger(__name__)

T = TypeVar("T")

INTERRUPTED: Final = 1  # an end that was not in order (contract section 11)
# Both doors drain, one after the other at worst; then the journal, the statistics and the pool.
STOP_MARGIN_SECONDS: Final = 15.0
# Objects made and not yet gone, then how many collections of a generation until one of the next.
GC_THRESHOLDS: Final = (25_000, 20, 20)


class Ready(NamedTuple):
    """Where the service accepts traffic."""

    http: str  # a URL
    grpc: str | None  # HOST:PORT
    demo: DemoKey | None


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the event loop that the service is measured with."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def spare_the_garbage_collector() -> None:
    """Have it look seldom, and not at what exists by now; call this once the service is up.

    Thousands of requests in flight are no garbage, but by default are looked through again and
    again: a fifth of what a small request costs.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


async def bring_up_to_date(conninfo: str) -> None:
    """Give the database this release's tables, and say what its operator should know."""
    for name in await migrate(conninfo):
        log.info("applied migration %s", name)
    async with await AsyncConnection.connect(session_conninfo(conninfo), autocommit=True) as db:
        if await logs_statements(db):
            log.warning(
                "PostgreSQL writes the text of statements that fail into its log, and with it what "
                "people sent; as a superuser: ALTER ROLE %s SET log_min_error_statement = 'panic'",
                db.info.user,
            )


async def demo_key(settings: Settings, conninfo: str) -> DemoKey:
    """What to try the service with; made if need be."""
    async with await AsyncConnection.connect(session_conninfo(conninfo), autocommit=True) as db:
        secret = await deployment_secret(db, configured_secret(settings))
        embedded = settings.database_url is None
        return await ensure_demo(db, secret, settings.data_dir if embedded else None)


def configured_secret(settings: Settings) -> str | None:
    """The operator's own secret for key digests, if there is one."""
    return None if settings.key_secret is None else settings.key_secret.get_secret_value()


def stop_signal(before_exit: Callable[[], None] | None = None) -> asyncio.Future[None]:
    """Done at SIGINT or SIGTERM; a second one ends the process, after ``before_exit``."""
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[None] = loop.create_future()

    def on_signal() -> None:
        if stop.done():
            if before_exit is not None:
                before_exit()
            # Safe at any instant: nothing is acknowledged before it is durable.
            log.error("stopped at once, by a second signal")
            os._exit(INTERRUPTED)
        stop.set_result(None)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    return stop


def max_stop_seconds(drain_seconds: float) -> float:
    """After so long a process that was told to stop hangs."""
    return 2 * drain_seconds + STOP_MARGIN_SECONDS


def host_and_port(given: str) -> tuple[str, int]:
    """The parts of HOST:PORT."""
    host, _, port = given.rpartition(":")
    return host.strip("[]"), int(port)


def http_url(host: str, port: int) -> str:
    """Where to reach what listens there."""
    # An address that means "all of them" is not one to connect to.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
