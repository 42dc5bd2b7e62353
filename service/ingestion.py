"""The core on a database: its parts, and what runs in their background."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from functools import partial
from typing import Final

from core.access.admission import Admission
from core.access.authentication import Authenticator
from core.access.invalidation import Invalidation
from core.access.key_secrets import KeySecrets
from core.access.rate_limits import RateLimiter
from core.access.shared_budget import SharedBudget
from core.access.shared_rates import SharedRates
from core.cells import Cell, Cells
from core.ingest import Ingestor
from core.journal.journal import Journal
from core.journal.rejections import Rejections
from core.journal.traffic import Traffic
from core.journal.workers import WorkerCache
from core.maintenance import Maintenance
from core.postgres.database import Database
from core.postgres.directory import HOME
from core.postgres.node import MAX_POOL_CONNECTIONS
from core.refusal_log import RefusalLog
from service.background import background
from service.processes.shared_state import SharedState
from service.rates import rate_store
from service.runtime import configured_secrets
from service.settings import Settings
from service.surroundings import Surroundings

# Of a node, for all server processes: leaves an embedded PostgreSQL connections for other commands.
MAX_CONNECTIONS_TOGETHER: Final = 128


def pool_connections(shared_state: SharedState) -> int:
    """The connections that a process may have to a node, beside those of its journals."""
    return min(MAX_POOL_CONNECTIONS, MAX_CONNECTIONS_TOGETHER // shared_state.size)


async def digest_secrets(settings: Settings, database: Database) -> KeySecrets:
    """The secret that keys the digests of API keys and operators' tokens."""
    async with database.connection() as db:
        return await configured_secrets(settings, db)


@contextlib.asynccontextmanager
async def open_ingestor(
    around: Surroundings, admission: Admission, database: Database, secrets: KeySecrets
) -> AsyncIterator[Ingestor]:
    """The core on a database, with what runs in its background."""
    settings, clock, counters, shared_state, failure, _ = around
    async with contextlib.AsyncExitStack() as stack:
        open_cell = partial(_cell, around, WorkerCache())
        connections = pool_connections(shared_state)
        cells = await stack.enter_async_context(
            Cells(database, open_cell, clock, counters, connections)
        )
        await stack.enter_async_context(background(cells.run(), failure))

        invalidation = Invalidation(database, clock)
        authenticator = Authenticator(database, cells.database_of, invalidation, clock, secrets)
        await stack.enter_async_context(background(invalidation.run(), failure))

        rates = None
        if (store := rate_store(settings)) is not None:
            rates = SharedRates(store, shared_state.buckets, clock, counters)
            await rates.open()
            await stack.enter_async_context(background(rates.run(), failure))
        limiter = RateLimiter(clock, shared_state.buckets, rates)
        refusals = RefusalLog(clock)
        await stack.enter_async_context(background(refusals.run(), failure))
        yield Ingestor(admission, authenticator, limiter, cells, refusals, counters, clock)


@contextlib.asynccontextmanager
async def _cell(
    around: Surroundings,
    workers: WorkerCache,
    name: str,
    database: Database,
    stream_openings: SharedBudget,
) -> AsyncIterator[Cell]:
    """A cell, with what runs in its background."""
    settings, clock, counters, _, failure, tracer = around
    async with contextlib.AsyncExitStack() as stack:
        rejections = Rejections(clock, keep_items=settings.keep_rejected_items)
        traffic = Traffic(clock)
        months, is_home = settings.event_retention_months, name == HOME
        maintenance = Maintenance(database, rejections, traffic, clock, months, is_home=is_home)
        stack.push_async_callback(maintenance.finish)
        await stack.enter_async_context(background(maintenance.run(), failure))
        journal = Journal(database, clock, counters, workers, tracer)
        await stack.enter_async_context(background(journal.run(), failure, journal.close))
        yield Cell(name, database, stream_openings, journal, rejections, traffic)
