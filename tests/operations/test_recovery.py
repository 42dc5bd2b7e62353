"""A base backup and an archive, and the way back to a moment, by docs/operations.md."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

from tests.matrix import installed as system_postgresql
from tests.operations.conftest import Hosts
from tests.operations.hosts import DatabaseHost
from tests.operations.test_replication import PAIR
from tests.service.cli.produce.events_file import write
from tests.support.tenant import Tenant, event, make_tenant
from tests.support.waiting import wait_until

ARCHIVE: Final = "Base backups and an archive"
BACK: Final = "Back to a moment before"
DISKS: Final = "Disks"
HEADINGS: Final = (ARCHIVE, BACK, DISKS)
MOMENT: Final = "2026-01-05 03:12:00+00"  # on the page
LINES: Final = 300


def url_of(host: DatabaseHost) -> str:
    """The way to the service's database on that host alone."""
    return f"postgresql://ingest@{host.address}:{host.port}/ingest"


def produce(hosts: Hosts, tenant: Tenant, file: Path, until: int) -> None:
    """Stream the file's first lines in the name of one producer."""
    lines: list[str | bytes | dict[str, Any]] = []
    for number in range(until):
        one = event(f"w-{number % 5}", metadata={"number": number})
        lines += [one, "\n"]
    write(file, lines)
    service = hosts.service.start_service()
    hosts.service.environment["WEPEOPLE_API_KEY"] = tenant.key
    command = f"produce {file} --producer-id nightly --server {service.grpc}"
    hosts.service.run(f"wepeople-ingest {command}")
    del hosts.service.environment["WEPEOPLE_API_KEY"]
    assert service.terminate() == 0


def numbers(url: str) -> list[int]:
    """The numbers of the stored lines, sorted."""
    with psycopg.connect(url) as db:
        query = "SELECT (metadata->>'number')::int FROM events ORDER BY 1"
        return [row[0] for row in db.execute(query)]


@pytest.mark.skipif(
    system_postgresql() is None,
    reason="the embedded PostgreSQL's pg_verifybackup crashes (Debian's postgresql has another)",
)
@pytest.mark.timeout(240)
def test_a_moment_is_restored_by_the_commands_of_the_page(hosts: Hosts) -> None:
    page, file = hosts.page, hosts.service.folder / "events.ndjson"
    page.run(PAIR)
    page.run(ARCHIVE)
    primary, restored = (host.conninfo(dbname="ingest") for host in (hosts.db1, hosts.db2))
    hosts.service.environment["DATABASE_URL"] = url_of(hosts.db1)
    hosts.service.run("wepeople-ingest migrate")
    tenant = asyncio.run(make_tenant(primary))
    produce(hosts, tenant, file, LINES)
    page.run(ARCHIVE)
    produce(hosts, tenant, file, 2 * LINES)
    with psycopg.connect(primary, autocommit=True) as db:
        row = db.execute("SELECT clock_timestamp()::text").fetchone()
        assert row is not None
        page.names[MOMENT] = row[0]
    produce(hosts, tenant, file, 3 * LINES)
    assert numbers(primary) == list(range(3 * LINES))

    page.run(DISKS)
    with psycopg.connect(primary, autocommit=True) as db:
        [(last,)] = db.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchall()
    archived = Path(page.names["/srv"], "archive", last)
    wait_until(archived.exists, "the log is archived")
    hosts.db1.kill()
    page.run(BACK)
    assert numbers(restored) == list(range(2 * LINES))

    hosts.service.environment["DATABASE_URL"] = url_of(hosts.db2)
    produce(hosts, tenant, file, 3 * LINES)
    assert numbers(restored) == list(range(3 * LINES))
    assert page.is_done(*HEADINGS)
    assert not os.path.exists(archived.with_suffix(".part"))
