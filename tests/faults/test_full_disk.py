"""The embedded database has no room for a while: it is said, and nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.batch_load import BatchLoad
from tests.support.service_process import EmbeddedServiceProcess, is_alive
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
        f"size={DISK_MIB}m,mode=0700",
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


@pytest.mark.alone
@pytest.mark.timeout(150)
def test_a_full_disk_is_told_and_nothing_is_lost(small_disk: Path) -> None:
    service = EmbeddedServiceProcess(small_disk)
    filler = small_disk / "filler"
    try:
        service.start()
        load = BatchLoad(service, service.tenant())

        def is_ready() -> bool:
            return httpx.get(f"{service.url}/readyz").status_code == 200

        def fill_and_free() -> None:
            for _ in range(2):
                load.acknowledges(20)
                fill(filler)
                wait_until(lambda: not is_ready(), "the service is not ready", seconds=30)
                time.sleep(3)  # longer than one look, and than PostgreSQL's own tries
                filler.unlink()
                freed = time.monotonic()
                load.acknowledges(1, HEALED_SECONDS)
                left = freed + HEALED_SECONDS - time.monotonic()
                wait_until(is_ready, "the service is ready", seconds=left)

        asyncio.run(load.run(fill_and_free))
        load.check(service.stored_batches(load.tenant))
        assert service.terminate() == 0
    finally:
        service.kill()
        wait_until(lambda: not is_alive(service.postmaster()), "PostgreSQL ends", seconds=15)
