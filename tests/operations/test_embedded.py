"""The embedded database: its dump, its restoration, and a release with another PostgreSQL."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from pathlib import Path
from typing import Final

import httpx
import psycopg
import pytest

from service.postgres.embedded import EmbeddedPostgres
from tests.operations.conftest import Hosts
from tests.operations.hosts import Page, ServiceHost
from tests.operations.releases import release_with_postgresql_16
from tests.operations.test_replication import PAIR
from tests.service.postgres.lease_holder import end
from tests.support.batch_load import BatchLoad, Service
from tests.support.tenant import event, make_tenant

BACKUP: Final = "Back up and restore it"
MAJOR: Final = "A release with another major version of PostgreSQL"
HEADINGS: Final = (BACKUP, MAJOR)
BATCHES: Final = 20
VERSION: Final = "wepeople-ingest database psql --command='SELECT version()'"
MAKE_KEY: Final = """
wepeople-ingest org create Acme
wepeople-ingest app create Acme crm --name CRM --allow ticket.resolved
wepeople-ingest key create crm --json | grep --only-matching 'wp_live_[0-9a-f]*' > key
"""
COUNT: Final = (
    "wepeople-ingest database psql --no-align --tuples-only --field-separator=' ' "
    "--command=\"SELECT metadata->>'batch', count(*) FROM events GROUP BY 1\""
)


def stored(service: ServiceHost) -> Counter[str]:
    """How many events of each batch are in the embedded database."""
    lines = service.run(COUNT).splitlines()
    return Counter({batch: int(count) for batch, count in map(str.split, lines)})


def load_on(process: Service, data_dir: Path) -> BatchLoad:
    """A load in the name of a new organization, which is made beside the service."""
    with EmbeddedPostgres(data_dir).acquire() as lease:
        return BatchLoad(process, asyncio.run(make_tenant(lease.conninfo)))


@pytest.mark.timeout(180)
def test_a_dump_is_of_one_moment_and_is_restored_elsewhere(newest_hosts: Hosts) -> None:
    service, page, db1 = newest_hosts.service, newest_hosts.page, newest_hosts.db1
    data_dir, restored = service.folder / "data", Path(page.names["/srv"], "restored")
    service.environment["WEPEOPLE_DATA_DIR"] = os.fspath(data_dir)
    try:
        process = service.start_service()
        load = load_on(process, data_dir)
        before: set[str] = set()

        def dump() -> None:
            load.acknowledges(BATCHES)
            before.update(load.acknowledged)
            page.run(BACKUP)
            load.acknowledges(BATCHES)

        asyncio.run(load.run(dump))
        load.check(stored(service))
        assert process.terminate() == 0

        page.run(BACKUP)
        dumped = stored(service)
        assert before <= set(dumped) < load.acknowledged
        assert dumped == Counter({batch: load.sent[batch] for batch in dumped})

        process = service.start_service()  # with the restored folder
        again = load_on(process, restored)
        asyncio.run(again.run(lambda: again.acknowledges(1)))
        assert process.terminate() == 0

        page.run(PAIR)
        db1.receive(service.folder / "ingest.dump")
        page.run(BACKUP)
        with psycopg.connect(db1.conninfo(dbname="ingest")) as db:
            query = "SELECT metadata->>'batch', count(*) FROM events GROUP BY 1"
            assert Counter(dict(db.execute(query).fetchall())) == dumped
        assert page.is_done(BACKUP)
    finally:
        service.kill()
        for folder in (data_dir, restored):
            end(folder)


@pytest.mark.timeout(180)
def test_a_release_with_another_postgresql_takes_over_the_data(short_folder: Path) -> None:
    service = ServiceHost(short_folder)
    page = Page({}, service)
    today = service.environment["PYTHONPATH"]
    data_dir = short_folder / "data"
    service.environment["WEPEOPLE_DATA_DIR"] = os.fspath(data_dir)
    service.environment["PYTHONPATH"] = release_with_postgresql_16(short_folder / "old")
    try:
        service.run(MAKE_KEY)
        post_one(service)
        assert "PostgreSQL 16" in service.run(VERSION)
        page.run(MAJOR)

        service.environment["PYTHONPATH"] = today
        said = service.run("wepeople-ingest org list 2>&1 || true")
        assert "pgdata-16, made by another major version" in said
        page.run(MAJOR)
        assert "PostgreSQL 18" in service.run(VERSION)
        post_one(service)
        assert stored(service) == Counter({"one": 2})
        assert page.is_done(MAJOR)
    finally:
        service.kill()
        end(data_dir)


def post_one(service: ServiceHost) -> None:
    """Start the service, have an event accepted, and stop it."""
    process = service.start_service()
    body = {"events": [event(metadata={"batch": "one"})]}
    headers = {"Authorization": f"Bearer {service.run('cat key').strip()}"}
    response = httpx.post(f"{process.url}/api/v1/ingest/events", json=body, headers=headers)
    assert response.status_code == 202, response.text
    assert process.terminate() == 0
