"""The hosts of docs/operations.md."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from service.postgres.embedded import installed
from tests.matrix import installed as system_postgresql
from tests.operations.hosts import (
    ADDRESSES,
    PASSWORD,
    DatabaseHost,
    Page,
    ServiceHost,
    programs,
)
from tests.support.ports import free_port
from tests.support.postgres_server import server_folder


@dataclass
class Hosts:
    """Two hosts of databases, one of services, and the page whose commands run there."""

    db1: DatabaseHost
    db2: DatabaseHost
    service: ServiceHost
    page: Page


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose path is short, because sockets of an embedded database are in it."""
    folder = Path(tempfile.mkdtemp(prefix="wp-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def hosts(short_folder: Path) -> Iterator[Hosts]:
    """The hosts with the system's own PostgreSQL, or else the embedded one's programs."""
    with running_hosts(short_folder, system_postgresql()) as hosts:
        yield hosts


@pytest.fixture
def newest_hosts(short_folder: Path) -> Iterator[Hosts]:
    """The hosts with the embedded database's version of PostgreSQL."""
    with running_hosts(short_folder, None) as hosts:
        yield hosts


@contextlib.contextmanager
def running_hosts(service_folder: Path, binaries: Path | None) -> Iterator[Hosts]:
    """The hosts, with a server on the first one."""
    with server_folder() as folder:
        port = free_port(*ADDRESSES.values())
        if binaries is None:
            binaries = programs(folder / "programs", installed())
        db1, db2 = (DatabaseHost(name, folder, port, binaries) for name in ADDRESSES)
        for name in ("archive", "backups"):
            db1.own(folder / name)
        service = ServiceHost(service_folder, PGPASSWORD=PASSWORD)
        url = f"@{db1.address}:{port},{db2.address}:{port}/"
        names = {"@db1.internal,db2.internal/": url, "/srv": os.fspath(folder)}
        try:
            db1.create()
            yield Hosts(db1, db2, service, Page(names, service, {"db1": db1, "db2": db2}))
        finally:
            service.kill()
            db1.kill()
            db2.kill()
