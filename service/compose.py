"""The composition root: the parts of the service, and the order in which they start and stop.

They start in the order in which :func:`running` names them, and stop in the reverse order:

1. readiness says "shutting down", and HTTP's answers end their connections; after the grace that
   is given to balancers, neither API takes new connections;
2. the gRPC API, then the HTTP API, answers the requests that it has begun;
3. the journal of each cell commits its last transaction;
4. maintenance writes the cell's last rejections;
5. the database's connections are closed, the last traces are sent, and the socket is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import NamedTuple

from starlette.types import ASGIApp

from core.access.admission import Admission
from core.admin.administration import Administration
from core.clock import Clock
from core.counters import Counters
from core.descriptors import max_connections
from core.ingest import Ingestor
from core.postgres.database import Database
from grpc_api.connections import Connections
from grpc_api.errors import StatusRenderer
from grpc_api.server import GrpcServer
from grpc_api.servicer import IngestServicer
from http_api.app import create_app
from http_api.console.views import Views
from http_api.listeners import address, bind
from http_api.operator_pages import Metrics
from http_api.server import HttpServer
from http_api.site import Site
from service.background import background
from service.freed_memory import return_memory
from service.gc_settings import configure_gc
from service.hangup import Hangup
from service.ingestion import digest_secrets, open_ingestor, pool_connections
from service.metrics import CONTENT_TYPE, MetricsPage
from service.postgres.open_database import open_database
from service.processes.shared_state import SharedState
from service.readiness import Readiness
from service.runtime import (
    Ready,
    bring_up_to_date,
    client_address,
    grpc_target,
    http_url,
    make_demo,
    stop_signal,
)
from service.settings import Settings, host_and_port
from service.state_metrics import StateMetrics
from service.surroundings import Surroundings
from service.tls import grpc_tls_files, http_tls_files
from service.tracing import tracing

log = logging.getLogger(__name__)


class Service(NamedTuple):
    """A running service: its addresses, the failure of a part, and the answer to SIGHUP."""

    http: str  # a URL
    grpc: str  # HOST:PORT
    failure: asyncio.Future[None]  # gets an exception if a part has ended by itself; never a result
    reload: Callable[[], None]  # reads the TLS files again


@contextlib.asynccontextmanager
async def running(
    settings: Settings,
    conninfo: str,
    clock: Clock | None = None,
    shared_state: SharedState | None = None,
    shown_key: str | None = None,
) -> AsyncIterator[Service]:
    """The service on a migrated database, accepting traffic within the block.

    With a ``shared_state`` it shares the two ports with the other server processes of that state.
    ``shown_key`` is the demo's, to be shown on its pages.

    Raises OSError if an address cannot be had, and the database's errors.
    """
    async with contextlib.AsyncExitStack() as stack:
        listener = bind(*host_and_port(settings.http), shared=shared_state is not None)
        stack.callback(listener.close)
        failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        stack.callback(failure.cancel)
        around = Surroundings(
            settings,
            clock or Clock(),
            Counters(),
            shared_state or SharedState.of_one(),
            failure,
            await stack.enter_async_context(tracing(settings)),
        )
        admission = Admission()
        database = await stack.enter_async_context(
            Database(conninfo, max_connections=pool_connections(around.shared_state))
        )
        secrets = await digest_secrets(settings, database)
        ingestor = await stack.enter_async_context(
            open_ingestor(around, admission, database, secrets)
        )

        readiness = Readiness(database, around.shared_state, around.clock)
        await readiness.check()
        await stack.enter_async_context(background(readiness.run(), failure))
        has_tls = settings.http_tls_certificate is not None
        url = http_url(*address(listener), has_tls=has_tls)
        base_url = settings.public_url or url
        servicer = _servicer(around, ingestor, base_url)
        grpc_server = _grpc_server(settings, servicer, readiness, shared=shared_state is not None)
        grpc_port = grpc_server.start()
        await stack.enter_async_context(background(servicer.connections.run(grpc_port), failure))
        site, views = _site(settings, base_url, grpc_port, shown_key), Views()
        administration = Administration(database, around.clock, secrets)
        http_app = _http_app(around, ingestor, readiness, site, administration, views)
        http_server = _http_server(around, http_app, listener, base_url)
        http_server.load_certificates()
        state = _state(around, admission, database, http_server, servicer, grpc_server, readiness)
        await stack.enter_async_context(background(state.run(), failure))
        await stack.enter_async_context(background(return_memory(), failure))
        await stack.enter_async_context(background(http_server.serve(), failure, http_server.stop))
        await stack.enter_async_context(background(grpc_server.serve(), failure, grpc_server.stop))
        begin_to_stop = partial(_begin_to_stop, settings, failure)
        stack.push_async_callback(begin_to_stop, readiness, http_server, grpc_server, views)
        grpc_address = client_address(host_and_port(settings.grpc)[0], grpc_port)
        yield Service(url, grpc_address, failure, partial(_reload, http_server, grpc_server))


async def _begin_to_stop(
    settings: Settings,
    failure: asyncio.Future[None],
    readiness: Readiness,
    http_server: HttpServer,
    grpc_server: GrpcServer,
    views: Views,
) -> None:
    readiness.drain()
    http_server.announce_stop()
    await grpc_server.announce_stop()
    if not failure.done():
        await asyncio.sleep(settings.drain_grace_seconds)
    views.end()  # which would last for as long as the drain may
    # Leaving the gRPC background waits for its drain, so HTTP is told to stop before it.
    http_server.stop()


def _reload(http_server: HttpServer, grpc_server: GrpcServer) -> None:
    http_server.reload_certificates()
    grpc_server.reload_certificates()


def _site(settings: Settings, base_url: str, grpc_port: int, shown_key: str | None) -> Site:
    has_tls = settings.grpc_tls_certificate is not None
    return Site(base_url, grpc_target(settings, grpc_port), shown_key, has_tls)


def _http_app(
    around: Surroundings,
    ingestor: Ingestor,
    readiness: Readiness,
    site: Site,
    administration: Administration,
    views: Views,
) -> ASGIApp:
    page = MetricsPage(around.shared_state, around.counters)
    return create_app(
        ingestor,
        readiness.problem,
        Metrics(page.renew, lambda: page.latest, CONTENT_TYPE),
        around.counters,
        site,
        around.clock,
        around.tracer,
        administration,
        views,
    )


def _http_server(
    around: Surroundings, app: ASGIApp, listener: socket.socket, base_url: str
) -> HttpServer:
    return HttpServer(
        app,
        listener,
        base_url=base_url,
        clock=around.clock,
        drain_seconds=around.settings.drain_seconds,
        max_connections=max_connections(),
        max_connections_per_address=around.settings.max_connections_per_address,
        tls=http_tls_files(around.settings),
    )


def _state(
    around: Surroundings,
    admission: Admission,
    database: Database,
    http_server: HttpServer,
    servicer: IngestServicer,
    grpc_server: GrpcServer,
    readiness: Readiness,
) -> StateMetrics:
    return StateMetrics(
        around.counters.registry,
        admission,
        database,
        http_server.connections,
        servicer.connections,
        readiness,
        {"http": http_server.certificate_end, "grpc": grpc_server.certificate_end},
    )


def _servicer(around: Surroundings, ingestor: Ingestor, base_url: str) -> IngestServicer:
    return IngestServicer(
        ingestor,
        StatusRenderer(base_url),
        around.counters,
        around.clock,
        around.settings.stream_max_seconds,
        Connections(max_connections()),
        around.tracer,
    )


def _grpc_server(
    settings: Settings, servicer: IngestServicer, readiness: Readiness, *, shared: bool
) -> GrpcServer:
    return GrpcServer(
        servicer,
        readiness.problem,
        address=settings.grpc,
        shared=shared,
        tls=grpc_tls_files(settings),
        drain_seconds=settings.drain_seconds,
    )


async def serve(
    settings: Settings,
    *,
    demo: bool,
    hangup: Hangup,
    on_ready: Callable[[Ready], None],
    progress: Callable[[str], None],
) -> None:
    """Serve until SIGINT or SIGTERM; a second one does not wait for the drain.

    SIGHUP has the TLS files read again, or is the end when the terminal is gone.

    Raises :class:`DatabaseUnusableError`, ``EmbeddedPostgresError`` or, for an address that cannot
    be had, OSError if the service cannot start; their messages say why.
    """
    hangup.use_loop()
    async with open_database(settings, progress) as conninfo:
        await bring_up_to_date(conninfo)
        shown = await make_demo(settings, conninfo) if demo else None
        key = None if shown is None else shown.key
        async with running(settings, conninfo, shown_key=key) as service:
            hangup.reload = service.reload
            stop = stop_signal()
            configure_gc()
            on_ready(Ready(service.http, service.grpc, shown))
            await asyncio.wait([stop, service.failure], return_when=asyncio.FIRST_COMPLETED)
            if service.failure.done():
                service.failure.result()
            log.info("stopping: finishing what was begun")
    log.info("stopped")
