"""The composition root: what the service is made of, and the order it starts and stops in."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Final, NamedTuple

import psycopg

from core.access.api_keys import deployment_secret
from core.access.authentication import Authenticator
from core.access.invalidation import Invalidation
from core.access.rate_limits import RateLimiter
from core.clock import Clock
from core.counters import Counters
from core.errors import IngestError
from core.ingest import Ingestor
from core.journal.journal import Journal
from core.journal.rejection_statistics import RejectionStatistics
from core.maintenance import Maintenance
from core.postgres.database import MAX_POOL_CONNECTIONS, Database
from core.postgres.migrate import is_migrated
from grpc_api.errors import StatusRenderer
from grpc_api.server import GrpcServer, Tls
from grpc_api.servicer import IngestServicer
from http_api.app import Metrics, create_app
from http_api.server import HttpServer, address, bind
from service.metrics import CONTENT_TYPE, MetricsPage
from service.postgres.open_database import open_database
from service.processes.shared_state import SharedState
from service.runtime import (
    Ready,
    bring_up_to_date,
    configured_secret,
    demo_key,
    host_and_port,
    http_url,
    spare_the_garbage_collector,
    stop_signal,
)
from service.settings import Settings

log = logging.getLogger(__name__)

READINESS_SECONDS: Final = 1.5
# For all server processes: leaves an embedded PostgreSQL connections for other commands.
MAX_CONNECTIONS_TOGETHER: Final = 128


class Service(NamedTuple):
    """A running service: where it accepts traffic, and what ends it untimely."""

    http: str  # a URL
    grpc: str  # HOST:PORT
    failure: asyncio.Future[None]  # never has a result; an exception if a part of it died


@contextlib.asynccontextmanager
async def running(
    settings: Settings,
    conninfo: str,
    clock: Clock | None = None,
    shared_state: SharedState | None = None,
) -> AsyncIterator[Service]:
    """The service on a migrated database, accepting traffic within the block.

    With a ``shared_state`` it shares the two ports with the other processes of it.

    Leaving the block stops it in order: no new requests, answers to those begun, the journal's
    last transaction, the statistics, the database.
    """
    clock = clock or Clock()
    shared = shared_state is not None
    shared_state = shared_state or SharedState.of_one()
    counters = Counters()
    async with contextlib.AsyncExitStack() as stack:
        listener = bind(*host_and_port(settings.http), shared=shared)
        stack.callback(listener.close)
        failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        stack.callback(failure.cancel)
        most = min(MAX_POOL_CONNECTIONS, MAX_CONNECTIONS_TOGETHER // shared_state.size)
        database = await stack.enter_async_context(Database(conninfo, max_connections=most))
        async with database.connection() as db:
            secret = await deployment_secret(db, configured_secret(settings))

        rejections = RejectionStatistics()
        maintenance = Maintenance(database, rejections, clock, settings.event_retention_months)
        stack.push_async_callback(maintenance.finish)
        await stack.enter_async_context(_background(maintenance.run(), failure))
        changes = Invalidation(database, clock)
        authenticator = Authenticator(database, changes, clock, secret)
        await stack.enter_async_context(_background(changes.run(), failure))
        journal = Journal(database, clock, counters)
        await stack.enter_async_context(_background(journal.run(), failure, journal.close))
        limiter = RateLimiter(clock, shared_state.buckets)
        ingestor = Ingestor(authenticator, limiter, journal, rejections, counters, database, clock)

        readiness = _Readiness(database, shared_state)
        url = http_url(*address(listener))
        public_url = settings.public_url or url
        server = HttpServer(
            create_app(
                ingestor,
                readiness.problem,
                Metrics(MetricsPage(shared_state, counters).render, CONTENT_TYPE),
                counters,
                public_url,
                clock,
            ),
            listener,
            base_url=public_url,
            clock=clock,
            drain_seconds=settings.drain_seconds,
        )
        await stack.enter_async_context(_background(server.serve(), failure, server.stop))
        grpc_server = GrpcServer(
            IngestServicer(
                ingestor, StatusRenderer(public_url), counters, clock, settings.stream_max_seconds
            ),
            readiness.problem,
            address=settings.grpc,
            shared=shared,
            tls=_tls(settings),
            drain_seconds=settings.drain_seconds,
        )
        grpc_port = grpc_server.start()
        await stack.enter_async_context(_background(grpc_server.serve(), failure, grpc_server.stop))
        # Neither API takes new work while the other drains.
        stack.callback(server.stop)
        stack.callback(readiness.drain)
        yield Service(url, f"{host_and_port(settings.grpc)[0]}:{grpc_port}", failure)


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
    """Whether the service should get traffic.

    It should when enough of its processes do, and the database answers and has our schema.
    """

    def __init__(self, database: Database, shared_state: SharedState) -> None:
        self._database = database
        self._shared_state = shared_state
        self._draining = False

    def drain(self) -> None:
        self._draining = True

    async def problem(self) -> str | None:
        if self._draining:
            return "shutting down"
        if (problem := self._shared_state.problem()) is not None:
            return problem
        try:
            migrated = await self._database.within(READINESS_SECONDS, self._is_migrated())
        except (psycopg.Error, IngestError):
            return "the database does not answer"
        return None if migrated else "the database is not migrated"

    async def _is_migrated(self) -> bool:
        async with self._database.connection() as db:
            return await is_migrated(db)


def _tls(settings: Settings) -> Tls | None:
    if settings.grpc_tls_certificate is None or settings.grpc_tls_key is None:
        return None
    return Tls(settings.grpc_tls_certificate, settings.grpc_tls_key, settings.grpc_tls_client_ca)


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
        await bring_up_to_date(conninfo)
        async with running(settings, conninfo) as service:
            stop = stop_signal()
            shown = await demo_key(settings, conninfo) if demo else None
            spare_the_garbage_collector()
            on_ready(Ready(service.http, service.grpc, shown))
            await asyncio.wait([stop, service.failure], return_when=asyncio.FIRST_COMPLETED)
            if service.failure.done():
                service.failure.result()
            log.info("stopping: finishing what was begun")
    log.info("stopped")
