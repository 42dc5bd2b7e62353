"""The number of server processes that ``--workers auto`` chooses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from core.postgres.node import MAX_JOURNAL_CONNECTIONS, MAX_POOL_CONNECTIONS
from service.processes.sizing import MAX_AUTOMATIC_PROCESSES, Place, Room, place, room, sizing
from tests.service.processes.several import metrics
from tests.support.service_process import PROJECT, STOP_SECONDS, without_settings

GIBIBYTE: Final = 1_073_741_824
MUCH: Final = 1_024 * GIBIBYTE
POSTGRES_CONNECTIONS: Final = 97  # by default, but for those of superusers


@pytest.mark.parametrize(
    ("cores", "embedded", "here", "elsewhere"),
    [
        (0.5, 1, 1, 1),
        (1, 1, 1, 1),
        (2, 1, 1, 2),
        (3.5, 1, 1, 3),
        (4, 2, 2, 4),
        (8, 4, 4, 6),
        (16, 8, 6, 6),
        (128, 32, 6, 6),
    ],
)
def test_a_database_beside_has_half_of_the_cores(
    cores: float, embedded: int, here: int, elsewhere: int
) -> None:
    found = [sizing(Room(cores, MUCH), database).processes for database in Place]
    assert found == [embedded, here, elsewhere]


@pytest.mark.parametrize(("gibibytes", "processes"), [(0.25, 1), (1, 2), (1.4, 2), (64, 6)])
def test_each_process_has_the_memory_that_it_may_come_to_need(
    gibibytes: float, processes: int
) -> None:
    room = Room(64, int(gibibytes * GIBIBYTE))
    assert sizing(room, Place.ELSEWHERE).processes == processes


def test_one_process_has_the_ports_where_connections_are_not_spread() -> None:
    chosen = sizing(Room(64, MUCH, spreads=False), Place.ELSEWHERE)
    assert chosen == (1, "this system spreads no connections over processes")


def test_the_reason_is_what_there_is_least_of() -> None:
    shared = sizing(Room(2, MUCH), Place.EMBEDDED)
    assert shared.reason == "2 cores, half for the database beside it"
    assert sizing(Room(1, MUCH), Place.ELSEWHERE).reason == "1 core"
    scarce = sizing(Room(8, GIBIBYTE), Place.ELSEWHERE)
    assert scarce.reason == "1,024 MiB of memory, 512 for each"


def test_the_connections_of_as_many_as_are_chosen_fit_into_a_server() -> None:
    listening = 1
    each = MAX_POOL_CONNECTIONS + MAX_JOURNAL_CONNECTIONS + listening
    assert MAX_AUTOMATIC_PROCESSES * each <= POSTGRES_CONNECTIONS


@pytest.mark.parametrize(
    ("database_url", "expected"),
    [
        (None, Place.EMBEDDED),
        ("postgresql:///ingest", Place.HERE),
        ("postgresql://ingest@127.0.0.1:5433/ingest", Place.HERE),
        ("postgresql://ingest@[::1]/ingest", Place.HERE),
        ("host=/run/postgresql dbname=ingest", Place.HERE),
        ("postgresql://ingest@localhost,db.internal/ingest", Place.ELSEWHERE),
        ("postgresql://ingest@db.internal/ingest", Place.ELSEWHERE),
        ("nonsense", Place.ELSEWHERE),
    ],
)
def test_a_database_at_an_address_of_this_machine_is_beside(
    database_url: str | None, expected: Place
) -> None:
    assert place(database_url) is expected


def control_files(root: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))


CONTAINER: Final = {
    "proc/self/cgroup": "0::/\n",
    "sys/fs/cgroup/cpu.max": "150000 100000\n",
    "sys/fs/cgroup/memory.max": "1073741824\n",
}
UNIT: Final = {  # the quota is its own, the memory that of all units together
    "proc/self/cgroup": "0::/system.slice/ingest.service\n",
    "sys/fs/cgroup/system.slice/ingest.service/cpu.max": "300000 100000\n",
    "sys/fs/cgroup/system.slice/ingest.service/memory.max": "max\n",
    "sys/fs/cgroup/system.slice/cpu.max": "max 100000\n",
    "sys/fs/cgroup/system.slice/memory.max": "2147483648\n",
}
FIRST_VERSION: Final = {  # of control groups, in a container that cannot see its own path
    "proc/self/cgroup": "4:memory:/docker/9f\n2:cpu,cpuacct:/docker/9f\n0::/docker/9f\n",
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "250000\n",
    "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "536870912\n",
}
NO_LIMITS: Final = {
    "proc/self/cgroup": "2:cpu,cpuacct:/\n0::/\n",
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
    "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
    "sys/fs/cgroup/cpu.max": "max 100000\n",
}


@pytest.mark.parametrize(
    ("files", "cores", "mebibytes"),
    [
        (CONTAINER, 1.5, 1_024),
        (UNIT, 3.0, 2_048),
        (FIRST_VERSION, 2.5, 512),
        (NO_LIMITS, 8.0, None),
        ({}, 8.0, None),
    ],
)
def test_the_limits_of_control_groups_count(
    tmp_path: Path,
    eight_cores: None,
    files: dict[str, str],
    cores: float,
    mebibytes: int | None,
) -> None:
    control_files(tmp_path, files)
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    found = room(tmp_path)
    assert found.cores == cores
    allowed = installed if mebibytes is None else mebibytes * 1_048_576
    assert found.memory_bytes == min(allowed, installed)


def test_a_start_without_a_setting_takes_as_many_as_help_and_says_so(
    tmp_path: Path, database_url: str
) -> None:
    """Four of eight cores by quota; the database of the test is on this machine."""
    limits = {**CONTAINER, "sys/fs/cgroup/cpu.max": "400000 100000\n"}
    control_files(tmp_path, {**limits, "sys/fs/cgroup/memory.max": "max\n"})
    program = (
        "import os, pathlib; os.sched_getaffinity = lambda _: set(range(8));"
        "from service.processes import sizing;"
        f"sizing.ROOT = pathlib.Path({str(tmp_path)!r});"
        "from service.cli.main import main; main()"
    )
    arguments = ["serve", "--json", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"]
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        env={
            **without_settings(os.environ),
            "DATABASE_URL": database_url,
            "PYTHONPATH": os.pathsep.join((str(PROJECT), str(PROJECT / "client"))),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            assert metrics(ready["http"])["wepeople_server_processes"] == 2
            process.send_signal(signal.SIGTERM)
            _, log = process.communicate(timeout=STOP_SECONDS)
        finally:
            process.kill()
    told = [line for line in log.splitlines() if "--workers" in line]
    assert len(told) == 1
    assert "2 server processes, for 4 cores, half for the database beside it" in told[0]
