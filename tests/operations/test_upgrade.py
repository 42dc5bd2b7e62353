"""Yesterday's release and today's, together under load: an upgrade, and its way back."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import psycopg
import pytest

from tests.faults.test_failover import SERVED_SECONDS
from tests.operations.hosts import Page, ServiceHost
from tests.operations.releases import earlier_release
from tests.support.batch_load import BatchLoad
from tests.support.databases import new_database
from tests.support.streaming import Streaming, stored
from tests.support.tcp_proxy import TcpProxy

UPGRADE: Final = "Upgrade and roll back"
HEADINGS: Final = (UPGRADE,)
BATCHES: Final = 30
COLUMNS: Final = """
SELECT table_name || '.' || column_name, data_type,
    is_nullable = 'YES' OR column_default IS NOT NULL
FROM information_schema.columns WHERE table_schema = 'public'
"""

Columns = dict[str, tuple[str, bool]]


def columns(url: str) -> Columns:
    """The type of each column, and whether a row may be stored that does not name it."""
    with psycopg.connect(url) as db:
        rows = db.execute(COLUMNS.encode()).fetchall()
    return {name: (kind, may_be_left_out) for name, kind, may_be_left_out in rows}


class Key(NamedTuple):
    """An API key."""

    key: str


def new_key(host: ServiceHost) -> Key:
    """A key of a new organization, made by the commands of the host's release."""
    host.run("wepeople-ingest org create Acme --rate 100000")
    host.run("wepeople-ingest app create Acme crm-hub --name CRM --allow ticket.resolved")
    return Key(
        json.loads(host.run("wepeople-ingest key create crm-hub --rate 100000 --json"))["key"]
    )


class Rollout:
    """Two services, replaced one by one; ``url`` names them in turn, as a simple balancer does."""

    def __init__(self, host: ServiceHost) -> None:
        self._host = host
        self._turns = itertools.count()
        self.services = [host.start_service(), host.start_service()]

    @property
    def url(self) -> str:
        return self.services[next(self._turns) % len(self.services)].url

    def replace(self, release: str, load: BatchLoad, proxy: TcpProxy) -> None:
        """Replace one service after the other, which get requests meanwhile."""
        self._host.environment["PYTHONPATH"] = release
        for place in (0, 1):
            proxy.lead_to(self.services[1 - place].grpc)
            assert self.services[place].terminate() == 0
            self.services[place] = self._host.start_service()
            load.acknowledges(BATCHES)


@pytest.fixture
def empty_database(postgres: str) -> Iterator[str]:
    """A database without tables."""
    with new_database(postgres, "wepeople_upgraded") as url:
        yield url


@pytest.mark.timed
@pytest.mark.timeout(240)
def test_releases_replace_each_other_under_load(empty_database: str, tmp_path: Path) -> None:
    host = ServiceHost(tmp_path, DATABASE_URL=empty_database)
    page, today = Page({}, host), host.environment["PYTHONPATH"]
    yesterday = host.environment["PYTHONPATH"] = earlier_release(tmp_path / "yesterday")
    host.run("wepeople-ingest migrate")
    try:
        rollout = Rollout(host)
        load = BatchLoad(rollout, new_key(host))

        async def run() -> None:
            async with TcpProxy(rollout.services[0].grpc) as proxy:
                streaming = Streaming(proxy.address, load.tenant)
                stream = asyncio.create_task(streaming.run())

                def upgrade_and_roll_back() -> None:
                    load.acknowledges(BATCHES)
                    host.environment["PYTHONPATH"] = today
                    page.run(UPGRADE)
                    load.acknowledges(BATCHES)
                    rollout.replace(today, load, proxy)
                    rollout.replace(yesterday, load, proxy)

                await load.run(upgrade_and_roll_back)
                streaming.is_over = True
                await stream
                sent.append(streaming.sent)

        sent: list[int] = []
        asyncio.run(run())
    finally:
        host.kill()
    batches, streamed, used = stored(empty_database)
    load.check(batches)
    assert streamed == Counter(range(sent[0]))
    assert used == batches.total() + streamed.total()
    assert load.longest_seconds < SERVED_SECONDS
    assert page.is_done(*HEADINGS)


@pytest.mark.timeout(120)
def test_migrations_of_today_only_add(empty_database: str, tmp_path: Path) -> None:
    host = ServiceHost(tmp_path, DATABASE_URL=empty_database)
    today = host.environment["PYTHONPATH"]
    host.environment["PYTHONPATH"] = earlier_release(tmp_path / "yesterday")
    host.run("wepeople-ingest migrate")
    before = columns(empty_database)
    host.environment["PYTHONPATH"] = today
    host.run("wepeople-ingest migrate")
    after = columns(empty_database)
    assert before.items() <= after.items()
    tables = {name.split(".")[0] for name in before}
    added = {name: of for name, of in after.items() if name not in before}
    for name, (_, may_be_left_out) in added.items():
        assert may_be_left_out or name.split(".")[0] not in tables, name
