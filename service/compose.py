"""The composition root: what the service is made of, and the order it starts and stops in."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Final, NamedTuple, TypeVar

import psycopg
import uvloop
from psycopg import AsyncConnection

from core.auth import Authenticator, deployment_secret
from core.changes import Changes
from core.clock import Clock
from core.database import Database, session_conninfo
from core.errors import IngestError
from core.ingest import Ingestor
from core.journal import Journal
from core.migrate import is_migrated, migrate
from core.ratelimit import RateLimiter
from core.refusals import Refusals
from core.upkeep import Upkeep
from grpc_api.errors import Errors
from grpc_api.server import GrpcServer, Tls
from grpc_api.servicer import IngestServicer
from http_api.app import create_app
from http_api.server import HttpServer, address, bind
from service.demo import DemoKey, ensure_demo
from service.open_database import open_database
from service.settings import Settings

log = logging.getLogger(__name__)

T = TypeVar("T")

READINESS_SECONDS: Final = 1.5


class Ready(NamedTuple):
    """Where the service accepts traffic."""

    http: str  # a URL
    grpc: str | None  # HOST:PORT
    demo: DemoKey | None


class Service(NamedTuple):
    """A running service: where it accepts traffic, and what ends it untimely."""

    http: str  # a URL
    grpc: str  # HOST:PORT
    failure: asyncio.Future[None]  # never has a result; an exception if a part of it died


@contextlib.asynccontextmanager
async def running(
    settings: Settings, conninfo: str, clock: Clock | None = None
) -> AsyncIterator[Service]:
    """The service on a migrated database, accepting traffic within the block.

    Leaving the block stops it in order: no new requests, answers to those begun, the journal's
    last group, the statistics, the database.
    """
    clock = clock or Clock()
    async with contextlib.AsyncExitStack() as stack:
        listener = bind(*_host_and_port(settings.http))
        stack.callback(listener.close)
        failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        stack.callback(failure.cancel)
        database = await stack.enter_async_context(Database(conninfo))
        async with database.connection() as db:
            secret = await deployment_secret(db, configured_secret(settings))

        refusals = Refusals()
        upkeep = Upkeep(database, refusals, clock, settings.event_retention_months)
        stack.push_async_callback(upkeep.finish)
        await stack.enter_async_context(_background(upkeep.run(), failure))
        changes = Changes(database, clock)
        authenticator = Authenticator(database, changes, clock, secret)
        await stack.enter_async_context(_background(changes.run(), failure))
        journal = Journal(database, clock)
        await stack.enter_async_context(_background(journal.run(), failure, journal.close))
        ingestor = Ingestor(authenticator, RateLimiter(clock), journal, refusals, database, clock)

        readiness = _Readiness(database)
        url = _url(*address(listener))
        public_url = settings.public_url or url
        server = HttpServer(
            create_app(ingestor, readiness.problem, public_url, clock),
            listener,
            base_url=public_url,
            clock=clock,
            drain_seconds=settings.drain_seconds,
        )
        await stack.enter_async_context(_background(server.serve(), failure, server.stop))
        grpc_server = GrpcServer(
            IngestServicer(ingestor, Errors(public_url), clock, settings.stream_max_seconds),
            readiness.problem,
            address=settings.grpc,
            tls=_tls(settings),
            drain_seconds=settings.drain_seconds,
        )
        grpc_port = grpc_server.start()
        await stack.enter_async_context(_background(grpc_server.serve(), failure, grpc_server.stop))
        # Neither door takes new work while the other drains.
        stack.callback(server.stop)
        stack.callback(readiness.drain)
        yield Service(url, f"{_host_and_port(settings.grpc)[0]}:{grpc_port}", failure)


@contextlib.asynccontextmanager
async def _background(
    work: Coroutine[Any, Any, None],
    failure: asyncio.Future[None],
    stop: Callable[[], None] | None = None,
) -> AsyncIterator[None]:
    """Run ``work`` beside the block; afterwards ask it to stop and wait, or else cancel it."""
    stopping = False

    def note(task: asyncio.Task[None]) -> None:
        if not stopping and not failure.done():
            error = None if task.cancelled() else task.exception()
            failure.set_exception(error or RuntimeError(f"{task.get_coro()} ended"))

    task = asyncio.create_task(work)
    task.add_done_callback(note)
    try:
        yield
    finally:
        stopping = True
        if stop is None:
            task.cancel()
        else:
            stop()
        await asyncio.gather(task, return_exceptions=True)


class _Readiness:
    """Whether the service should get traffic: the database answers and has our schema."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._draining = False

    def drain(self) -> None:
        self._draining = True

    async def problem(self) -> str | None:
        if self._draining:
            return "shutting down"
        try:
            migrated = await self._database.within(READINESS_SECONDS, self._is_migrated())
        except (psycopg.Error, IngestError):
            return "the database does not answer"
        return None if migrated else "the database is not migrated"

    async def _is_migrated(self) -> bool:
        async with self._database.connection() as db:
            return await is_migrated(db)


def _host_and_port(given: str) -> tuple[str, int]:
    host, _, port = given.rpartition(":")
    return host.strip("[]"), int(port)


def _tls(settings: Settings) -> Tls | None:
    if settings.grpc_tls_certificate is None or settings.grpc_tls_key is None:
        return None
    return Tls(settings.grpc_tls_certificate, settings.grpc_tls_key, settings.grpc_tls_client_ca)


def _url(host: str, port: int) -> str:
    # An address that means "all of them" is not one to connect to.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def configured_secret(settings: Settings) -> str | None:
    """The operator's own secret for key digests, if there is one."""
    return None if settings.key_secret is None else settings.key_secret.get_secret_value()


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine on the event loop that the service is measured with."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


async def serve(
    settings: Settings,
    *,
    demo: bool,
    on_ready: Callable[[Ready], None],
    progress: Callable[[str], None],
) -> None:
    """Serve until SIGINT or SIGTERM; a second one does not wait for the drain.

    Raises what says why the service cannot start: :class:`DatabaseUnusableError`,
    ``EmbeddedPostgresError``, OSError for an address that cannot be had.
    """
    async with open_database(settings, progress) as conninfo:
        for name in await migrate(conninfo):
            log.info("applied migration %s", name)
        async with running(settings, conninfo) as service:
            stop = _stop_signal()
            shown = await _demo_key(settings, conninfo) if demo else None
            on_ready(Ready(service.http, service.grpc, shown))
            await asyncio.wait([stop, service.failure], return_when=asyncio.FIRST_COMPLETED)
            if service.failure.done():
                service.failure.result()
            log.info("stopping: finishing what was begun")
    log.info("stopped")


async def _demo_key(settings: Settings, conninfo: str) -> DemoKey:
    async with await AsyncConnection.connect(session_conninfo(conninfo), autocommit=True) as db:
        secret = await deployment_secret(db, configured_secret(settings))
        embedded = settings.database_url is None
        return await ensure_demo(db, secret, settings.data_dir if embedded else None)


def _stop_signal() -> asyncio.Future[None]:
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[None] = loop.create_future()

    def on_signal() -> None:
        if stop.done():
            # Safe at any instant: nothing is acknowledged before it is durable.
            log.error("stopped at once, by a second signal")
            os._exit(1)
        stop.set_result(None)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    return stop
