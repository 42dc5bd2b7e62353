"""The disk of a database is full for a while: it is said, and nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from core.postgres.migrate import migrate
from tests.support.batch_load import BatchLoad
from tests.support.postgres_server import PostgresServer, server_folder
from tests.support.service_process import EmbeddedServiceProcess, is_alive, service_on
from tests.support.tenant import make_tenant
from tests.support.waiting import wait_until

DISK_MIB = 160
# Two seconds are promised; a busy machine may add to them.
HEALED_SECONDS = 2.0 + 2.0


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A folder on a file system of its own, which is soon full."""
    folder = Path(tempfile.mkdtemp(prefix="wp-", dir="/tmp"))
    unmount = ["umount", "-l", os.fspath(folder)]
    mount = [
        "mount",
        "-t",
        "tmpfs",
        "-o",
        f"size={DISK_MIB}m,mode=0755",
        "tmpfs",
        os.fspath(folder),
    ]
    try:
        if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("a file system cannot be mounted here (root may)")
        yield folder
        subprocess.run(unmount, check=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def fill(path: Path) -> None:
    """Take all the room that is left."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(65_536))


def fill_and_free(load: BatchLoad, filler: Path) -> None:
    """Have the disk be full for a while, twice; returns once all goes on."""

    def is_ready() -> bool:
        return httpx.get(f"{load.service.url}/readyz").status_code == 200

    for _ in range(2):
        load.acknowledges(20)
        fill(filler)
        wait_until(lambda: not is_ready(), "the service is not ready", seconds=30)
        time.sleep(3)  # longer than one look, and than PostgreSQL's own tries
        assert not is_ready()
        filler.unlink()
        freed = time.monotonic()
        load.acknowledges(1, HEALED_SECONDS)
        left = freed + HEALED_SECONDS - time.monotonic()
        wait_until(is_ready, "the service is ready", seconds=left)


@pytest.mark.timed
@pytest.mark.timeout(150)
def test_a_full_disk_of_the_embedded_database_is_told_and_nothing_is_lost(
    small_disk: Path,
) -> None:
    service = EmbeddedServiceProcess(small_disk)
    try:
        service.start()
        tenant = service.tenant()
        load = BatchLoad(service, tenant)
        asyncio.run(load.run(lambda: fill_and_free(load, small_disk / "filler")))
        load.check(service.stored_batches(tenant))
        assert service.terminate() == 0
    finally:
        service.kill()
        wait_until(lambda: not is_alive(service.postmaster()), "PostgreSQL ends", seconds=15)


@pytest.mark.timed
@pytest.mark.timeout(150)
def test_a_full_disk_of_a_server_s_tables_is_told_and_nothing_is_lost(small_disk: Path) -> None:
    """Its write-ahead log has room: errors come for want of pages, and PostgreSQL goes on."""
    with server_folder() as folder:
        server = PostgresServer(small_disk / "server")
        try:
            server.create(folder / "wal")
            server.start()
            asyncio.run(migrate(server.conninfo))
            tenant = asyncio.run(make_tenant(server.conninfo))
            with service_on(server.conninfo) as service:
                load = BatchLoad(service, tenant)
                asyncio.run(load.run(lambda: fill_and_free(load, small_disk / "filler")))
            stored = asyncio.run(
                tenant.rows("SELECT metadata->>'batch' AS batch, count(*) FROM events GROUP BY 1")
            )
            load.check(Counter({row["batch"]: row["count"] for row in stored}))
            assert asyncio.run(tenant.used()) == load.sent.total()
        finally:
            server.stop()
