"""The database that the settings name: a server, or the embedded one for as long as it is used."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import Final

import psycopg

from core.failure_log import one_line
from core.postgres.database import Database
from core.postgres.errors import DatabaseUnusableError
from core.postgres.sessions import forget_libpq_variables
from service.postgres.embedded import EmbeddedPostgres, Lease
from service.settings import Settings

log = logging.getLogger(__name__)

REACHABLE_SECONDS: Final = 30.0
LEASE_RETRY_SECONDS: Final = 1.0


@contextlib.asynccontextmanager
async def open_database(
    settings: Settings, progress: Callable[[str], None] | None = None
) -> AsyncIterator[str]:
    """The connection string of a database that answers, embedded or given by ``DATABASE_URL``.

    Raises :class:`DatabaseUnusableError` or ``EmbeddedPostgresError``, which say what to do.
    """
    async with contextlib.AsyncExitStack() as stack:
        if settings.database_url is not None:
            conninfo = settings.database_url
        else:
            forget_libpq_variables()  # they are about another server
            embedded = EmbeddedPostgres(settings.data_dir)
            lease = await asyncio.to_thread(embedded.acquire, progress)
            holder = _LeaseHolder(embedded, lease)
            stack.push_async_callback(holder.close)
            conninfo = lease.conninfo
        try:
            database = Database(conninfo)
        except psycopg.ProgrammingError as error:
            raise DatabaseUnusableError(
                f"DATABASE_URL is not a connection string: {one_line(error)}"
            ) from None
        await database.wait_until_reachable(REACHABLE_SECONDS if progress else 0)
        yield conninfo


class _LeaseHolder:
    """Holds the lease on the embedded database, and takes a new one when it is lost."""

    def __init__(self, embedded: EmbeddedPostgres, lease: Lease) -> None:
        self._embedded = embedded
        self._lease = lease
        self._task = asyncio.create_task(self._watch(), name="embedded-postgres-lease")

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._lease.close()

    async def _watch(self) -> None:
        while True:
            await _readable(self._lease.fileno())
            log.error("the embedded PostgreSQL stopped; starting it again")
            self._lease.close()
            while True:
                try:
                    self._lease = await asyncio.to_thread(self._embedded.acquire)
                    break
                except Exception as error:
                    log.error("the embedded PostgreSQL does not start: %s", one_line(error))
                    await asyncio.sleep(LEASE_RETRY_SECONDS)


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    event = asyncio.Event()
    loop.add_reader(descriptor, event.set)
    try:
        await event.wait()
    finally:
        loop.remove_reader(descriptor)
