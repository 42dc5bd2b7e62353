"""The number of server processes that help on this machine, for ``--workers auto``.

A server process keeps one core busy at most. A database on the same machine takes about as much CPU
as the service (BENCHMARKS.md), so that half of the cores are its own.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

import psycopg
from psycopg.conninfo import conninfo_to_dict

from service.setting_checks import MAX_SERVER_PROCESSES
from service.settings import Settings
from service.tls import is_local

# The most that one may come to have resident (docs/contract.md, section 12).
PROCESS_BYTES: Final = 512 * 1_048_576
# Their connections, 15 each, fit into the 100 that PostgreSQL allows by default.
MAX_AUTOMATIC_PROCESSES: Final = 6
ROOT: Final = Path("/")


class Place(Enum):
    """The place of the database: our own, another on this machine, or one elsewhere."""

    EMBEDDED = auto()
    HERE = auto()
    ELSEWHERE = auto()


@dataclass(frozen=True)
class Room:
    """The room that this process and its children have on the machine.

    ``spreads``: whether the kernel spreads the connections of a port over processes.
    """

    cores: float
    memory_bytes: int
    spreads: bool = True


class Sizing(NamedTuple):
    """A number of server processes, and the reason why it is no greater."""

    processes: int
    reason: str


def sizing(room: Room, database: Place) -> Sizing:
    """The greatest number of server processes that the room, and the database, have use for."""
    cores = f"{room.cores:g} core{'' if room.cores == 1 else 's'}"
    if database is Place.ELSEWHERE:
        bounds = [Sizing(int(room.cores), cores)]
    else:
        bounds = [Sizing(int(room.cores / 2), f"{cores}, half for the database beside it")]
    mebibytes = PROCESS_BYTES // 1_048_576
    memory = f"{room.memory_bytes // 1_048_576:,} MiB of memory, {mebibytes} for each"
    bounds.append(Sizing(room.memory_bytes // PROCESS_BYTES, memory))
    if database is Place.EMBEDDED:
        bounds.append(Sizing(MAX_SERVER_PROCESSES, "the most there may be"))
    else:
        bounds.append(Sizing(MAX_AUTOMATIC_PROCESSES, "the connections of a PostgreSQL server"))
    if not room.spreads:
        bounds.append(Sizing(1, "this system spreads no connections over processes"))
    least = min(bounds, key=lambda bound: bound.processes)
    return Sizing(max(least.processes, 1), least.reason)


def automatic(settings: Settings) -> Sizing:
    """The number of server processes for these settings on this machine."""
    return sizing(room(ROOT), place(settings.database_url))


def place(database_url: str | None) -> Place:
    """The place of the database with this URL; None for the embedded one."""
    if database_url is None:
        return Place.EMBEDDED
    try:
        given = conninfo_to_dict(database_url)
    except psycopg.Error:
        return Place.ELSEWHERE  # an error of the start, which says so
    hosts = str(given.get("hostaddr") or given.get("host") or "/").split(",")
    here = all(host.startswith(("/", "@")) or is_local(host) for host in hosts)
    return Place.HERE if here else Place.ELSEWHERE


def room(root: Path) -> Room:
    """The cores and the memory that this process may use.

    ``root``: the folder under which the control groups are, in both of their versions.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Room(
        min([float(allowed or 1), *_quotas(root)]),
        min([installed, *_memory_limits(root)]),
        sys.platform == "linux",
    )


def _quotas(root: Path) -> Iterator[float]:
    """The cores that control groups allow, as quotas of CPU time."""
    for folder in _control_groups(root, "cpu"):
        for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
            with contextlib.suppress(OSError, ValueError):
                words = " ".join((folder / name).read_text() for name in names).split()
                quota, period = map(int, words)  # "max", if there is none
                if quota > 0 and period > 0:
                    yield quota / period


def _memory_limits(root: Path) -> Iterator[int]:
    """The bytes that control groups allow."""
    for folder in _control_groups(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            with contextlib.suppress(OSError, ValueError):
                yield int((folder / name).read_text())


def _control_groups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's control groups, and of those above them.

    A container may see none of its own path, and its group at the top.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / (controller if controllers else "")
        group = PurePosixPath(path)
        for one in (group, *group.parents):
            yield top / one.relative_to("/")
