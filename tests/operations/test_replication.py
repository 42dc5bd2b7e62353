"""A primary and a synchronous standby, by the commands of docs/operations.md, under load."""

from __future__ import annotations

import asyncio
from typing import Final

import httpx
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.faults.test_failover import SERVED_SECONDS
from tests.operations.conftest import Hosts
from tests.operations.hosts import PASSWORD, DatabaseHost
from tests.support.batch_load import BatchLoad, Service
from tests.support.streaming import stored
from tests.support.tenant import make_tenant
from tests.support.waiting import wait_until

LOOK: Final = "Stop, start, look"
PAIR: Final = "A primary and a synchronous standby"
WITHOUT: Final = "Go on without the standby"
PROMOTE: Final = "Promote the standby"
HEADINGS: Final = (LOOK, PAIR, WITHOUT, PROMOTE)
BATCHES: Final = 30


def is_confirmed_by(primary: DatabaseHost, standby: str) -> bool:
    """Whether commits of the primary wait for that standby."""
    with psycopg.connect(primary.conninfo()) as db:
        rows = db.execute(
            "SELECT FROM pg_stat_replication WHERE sync_state = 'sync' AND application_name = %s",
            (standby,),
        )
        return len(rows.fetchall()) == 1


def is_ready(service: Service) -> bool:
    return httpx.get(f"{service.url}/readyz").status_code == 200


def make_pair(hosts: Hosts) -> str:
    """Make the primary, its standby and the tables; returns a connection string to the primary."""
    hosts.page.run(PAIR, 3)
    wait_until(lambda: is_confirmed_by(hosts.db1, "db2"), "the standby confirms commits")
    hosts.page.run(PAIR)
    return make_conninfo(hosts.service.environment["DATABASE_URL"], password=PASSWORD)


def live_through(hosts: Hosts, load: BatchLoad, *, is_planned: bool) -> None:
    """Lose the standby, go on without it, have it back; lose the primary, promote."""
    service, page = load.service, hosts.page
    page.names["http://127.0.0.1:8080"] = service.url
    assert "sync" in page.run(LOOK, 2)
    load.acknowledges(BATCHES)

    hosts.db2.kill()
    wait_until(lambda: not is_ready(service), "the service is not ready")
    page.run(WITHOUT)
    wait_until(lambda: is_ready(service), "the service is ready", seconds=SERVED_SECONDS)
    load.acknowledges(BATCHES)
    page.run(WITHOUT, 2)
    wait_until(lambda: is_confirmed_by(hosts.db1, "db2"), "the standby confirms commits")
    load.acknowledges(BATCHES)

    if not is_planned:
        hosts.db1.kill()
        page.skip(PROMOTE)
    page.run(PROMOTE, 2 if is_planned else 1)
    load.acknowledges(1, SERVED_SECONDS)
    wait_until(lambda: is_ready(service), "the service is ready", seconds=SERVED_SECONDS)
    load.acknowledges(BATCHES)
    page.run(PROMOTE, 3)
    wait_until(lambda: is_confirmed_by(hosts.db2, "db1"), "the standby confirms commits")
    load.acknowledges(BATCHES)


@pytest.mark.timed
@pytest.mark.timeout(240)
@pytest.mark.parametrize("is_planned", [False, True], ids=["killed", "planned"])
def test_a_pair_lives_through_the_loss_of_either_by_the_commands_of_the_page(
    hosts: Hosts, is_planned: bool
) -> None:
    url = make_pair(hosts)
    service = hosts.service.start_service()
    load = BatchLoad(service, asyncio.run(make_tenant(url)))
    asyncio.run(load.run(lambda: live_through(hosts, load, is_planned=is_planned)))
    batches, _, used = stored(url)
    load.check(batches)
    assert used == batches.total()
    assert hosts.page.is_done(*HEADINGS)
    assert service.terminate() == 0
