"""A server gets a new major version by the commands of docs/operations.md, under load."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final

import psycopg
import pytest

from service.postgres.embedded import installed
from tests.operations.conftest import running_hosts
from tests.operations.hosts import programs
from tests.operations.test_recovery import url_of
from tests.operations.test_replication import PAIR
from tests.support.batch_load import BatchLoad
from tests.support.streaming import stored
from tests.support.tenant import make_tenant

MAJOR: Final = "A new major version of a server"
HEADINGS: Final = (MAJOR,)
BATCHES: Final = 30
OLD_AND_NEW: Final = ("pginstall", "pginstall18")  # the wheel's folders of 16 and 18


def version(conninfo: str) -> int:
    """The major version of a server."""
    with psycopg.connect(conninfo) as db:
        return db.info.server_version // 10_000


@pytest.mark.timeout(240)
def test_a_server_is_upgraded_and_the_service_finds_it_again(short_folder: Path) -> None:
    short_folder.chmod(0o755)
    old_programs, new_programs = (
        programs(short_folder / "programs", installed().parent / name) for name in OLD_AND_NEW
    )
    with running_hosts(short_folder, old_programs) as hosts:
        hosts.page.names["/usr/lib/postgresql/16/bin"] = os.fspath(old_programs)
        hosts.page.names["/usr/lib/postgresql/18/bin"] = os.fspath(new_programs)
        hosts.page.run(PAIR)
        hosts.service.environment["DATABASE_URL"] = url_of(hosts.db1)
        service = hosts.service.start_service()
        database = hosts.db1.conninfo(dbname="ingest")
        assert version(database) == 16
        load = BatchLoad(service, asyncio.run(make_tenant(database)))

        def upgrade() -> None:
            load.acknowledges(BATCHES)
            hosts.page.run(MAJOR)
            load.acknowledges(BATCHES)

        asyncio.run(load.run(upgrade))
        assert service.terminate() == 0
        assert version(database) == 18
        batches, _, used = stored(database)
        load.check(batches)
        assert used == batches.total()
        assert hosts.page.is_done(*HEADINGS)
