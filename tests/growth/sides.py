"""The two services that are compared: one on a filled database, one on an empty one."""

from __future__ import annotations

import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from core.postgres.migrate import migrate
from service.bench import sample
from service.bench.resources import Processes, of_pid, postgres_of
from service.postgres.embedded import EmbeddedPostgres
from tests.growth.fill import fill
from tests.growth.owners import Owner, make_owners
from tests.support.database import connect
from tests.support.service_process import EmbeddedServiceProcess, is_alive
from tests.support.tenant import make_tenant
from tests.support.two_cells import cell_session
from tests.support.waiting import wait_until

STOP_SECONDS: Final = 120.0  # with the checkpoint of a fill
# Not for what is measured: a month that is stored in one transaction then needs no log.
FILL_SETTINGS: Final = {"wal_level": "minimal", "max_wal_senders": "0"}


@dataclass(frozen=True)
class Side:
    """A running service with an organization to send for, and the processes whose CPU counts."""

    name: str
    process: EmbeddedServiceProcess
    database_url: str
    key: str
    service: Processes
    database: Processes


async def filled(process: EmbeddedServiceProcess, events: int) -> list[Owner]:
    """Store the events in the service's database, while it does not run; returns whose they are."""
    with EmbeddedPostgres(process.data_dir).acquire() as lease:
        await migrate(lease.conninfo)
        async with await connect(lease.conninfo) as db:
            for name, value in FILL_SETTINGS.items():
                await db.execute(f"ALTER SYSTEM SET {name} = '{value}'".encode())
    _wait_for_end(process)
    with EmbeddedPostgres(process.data_dir).acquire() as lease:
        async with cell_session(lease.conninfo, None) as cell:
            owners = await make_owners(cell)
        await fill(lease.conninfo, owners, events, time.time_ns() // 1_000)
        async with await connect(lease.conninfo) as db:
            await db.execute("ALTER SYSTEM RESET ALL")
    _wait_for_end(process)
    return owners


@asynccontextmanager
async def started(name: str, process: EmbeddedServiceProcess) -> AsyncIterator[Side]:
    """The service, started, with a new organization for the load."""
    process.start()
    try:
        with EmbeddedPostgres(process.data_dir).acquire() as lease:
            tenant = await make_tenant(lease.conninfo, event_types=(sample.EVENT_TYPE,))
            async with await connect(lease.conninfo) as db:
                database = postgres_of(db.info)
            service = of_pid(process.pid)
            yield Side(name, process, lease.conninfo, tenant.key, service, database)
    finally:
        process.kill()


def remove(process: EmbeddedServiceProcess) -> None:
    """End what may still run, and remove its folder."""
    process.kill()
    _wait_for_end(process)
    shutil.rmtree(process.data_dir.parent)


def _wait_for_end(process: EmbeddedServiceProcess) -> None:
    wait_until(lambda: not is_alive(process.postmaster()), "PostgreSQL ends", seconds=STOP_SECONDS)


def make_process(folder: Path) -> EmbeddedServiceProcess:
    """A service that is not started yet, with its data in that folder, which is made."""
    folder.mkdir()
    return EmbeddedServiceProcess(folder)
