"""Processes that hold leases on an embedded PostgreSQL, and its own processes.

Everything here is real: processes, signals, folders. It runs as root and as an ordinary user.
"""

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from service.postgres.embedded import EmbeddedPostgres, Lease
from tests.support.waiting import wait_until

PROJECT = Path(__file__).parents[3]

SEARCH_PATH = os.pathsep.join([os.fspath(PROJECT), os.environ.get("PYTHONPATH", "")])

WAIT_SECONDS = 20.0

ONLY_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="is about what root has to do")

ONLY_PROC = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux's /proc")

# A process that holds a lease: says so in one line, and holds it until its stdin is closed.
HOLDER = """
import json, sys
from pathlib import Path
import psycopg
from service.postgres.embedded import EmbeddedPostgres
lease = EmbeddedPostgres(Path(sys.argv[1])).acquire()
with psycopg.connect(lease.conninfo) as connection:
    row = connection.execute("SELECT current_setting('data_directory'), current_user").fetchone()
print(json.dumps({"conninfo": lease.conninfo, "row": row}), flush=True)
sys.stdin.read()
"""


def end(data_dir: Path) -> None:
    """Have no keeper in the folder, so that no process is left behind; the lock tells."""
    with suppress(FileNotFoundError), (data_dir / "postgres/keeper.lock").open("r+") as lock:
        with suppress(FileNotFoundError, subprocess.CalledProcessError):
            if not can_lock(lock.fileno()):  # it would end by itself, but linger
                os.kill(parent(postmaster(data_dir)), signal.SIGTERM)
        wait_until(lambda: can_lock(lock.fileno()), "the keeper ends")


def can_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def acquire(data_dir: Path) -> Lease:
    return EmbeddedPostgres(data_dir).acquire(timeout_seconds=WAIT_SECONDS)


def execute(lease: Lease, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(lease.conninfo) as connection:
        cursor = connection.execute(query)
        return cursor.fetchall() if cursor.description else []


def postmaster(data_dir: Path) -> int:
    return int((data_dir / "postgres/pgdata-18/postmaster.pid").read_text().split()[0])


def parent(pid: int) -> int:
    listing = ["ps", "-o", "ppid=", "-p", str(pid)]
    return int(subprocess.run(listing, capture_output=True, check=True).stdout)


def start_holder(data_dir: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, data_dir],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": SEARCH_PATH},
    )


def first_line(holder: subprocess.Popen[str]) -> dict[str, Any]:
    assert holder.stdout is not None
    assert select.select([holder.stdout], [], [], WAIT_SECONDS)[0], "nothing said"
    said: dict[str, Any] = json.loads(holder.stdout.readline())
    return said


def is_lost(lease: Lease, seconds: float = 0.0) -> bool:
    return bool(select.select([lease], [], [], seconds)[0])
