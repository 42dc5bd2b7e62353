"""CPU time and memory of the service and of the database, as the operating system counts them."""

from __future__ import annotations

import contextlib
import platform
from pathlib import Path
from typing import Final

import psutil
from psycopg import ConnectionInfo

from service.tls import is_local

POSTGRES: Final = "postgres"
SERVER_PROCESS: Final = "service.processes.server_process"
MAX_LOOKS: Final = 5  # at processes of which some end


class Processes:
    """Some processes of this machine with all their descendants, as they come and go."""

    def __init__(self, roots: list[psutil.Process]) -> None:
        self.roots = roots

    def __bool__(self) -> bool:
        return bool(self.roots)

    def _all(self) -> list[psutil.Process]:
        found: dict[int, psutil.Process] = {}
        for root in self.roots:
            with contextlib.suppress(psutil.Error):
                for process in (root, *root.children(recursive=True)):
                    found[process.pid] = process
        return list(found.values())

    def cpu_seconds(self) -> float:
        """The CPU time they have used, with that of their children that have ended."""
        own, ended = self._cpu_seconds()
        for _ in range(MAX_LOOKS):
            before = own + ended
            own, ended_since = self._cpu_seconds()
            if ended_since == ended:
                return before
            ended = ended_since  # one that ended in between was counted never, or twice
        return own + ended

    def _cpu_seconds(self) -> tuple[float, float]:
        """The CPU time of those that run, and of those that have ended."""
        own = ended = 0.0
        for process in self._all():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                own += times.user + times.system
                ended += getattr(times, "children_user", 0) + getattr(times, "children_system", 0)
        return own, ended

    def servers(self) -> int | None:
        """How many of them are server processes; one that has no supervisor is the only one."""
        if not self.roots:
            return None
        count = 0
        for process in self._all():
            with contextlib.suppress(psutil.Error):
                count += SERVER_PROCESS in process.cmdline()
        return count or 1

    def resident_bytes(self) -> int:
        """The resident memory of the largest of them."""
        sizes = [0]
        for process in self._all():
            with contextlib.suppress(psutil.Error):
                sizes.append(process.memory_info().rss)
        return max(sizes)


def of_pid(pid: int) -> Processes:
    """The process of that id and its descendants."""
    return Processes([psutil.Process(pid)])


def listening(host: str, port: int) -> Processes:
    """The processes that listen on a port of this machine; none if they cannot be seen."""
    pids: set[int] = set()
    if is_local(host):
        with contextlib.suppress(psutil.Error):
            pids = {
                connection.pid
                for connection in psutil.net_connections("tcp")
                if connection.status == psutil.CONN_LISTEN
                and connection.laddr
                and connection.laddr.port == port
                and connection.pid is not None
            }
    found = []
    for pid in sorted(pids):
        with contextlib.suppress(psutil.Error):
            found.append(psutil.Process(pid))
    return Processes(found)


def postgres_of(connection: ConnectionInfo) -> Processes:
    """The PostgreSQL behind a connection; none if it is elsewhere or cannot be seen."""
    if connection.host.startswith("/") or is_local(connection.host):
        with contextlib.suppress(psutil.Error):
            parent = psutil.Process(connection.backend_pid).parent()
            if parent is not None and parent.name() == POSTGRES:
                return Processes([parent])
    return Processes([])


def machine(folder: Path | None) -> dict[str, str | int | float | None]:
    """The machine of the measurement. ``folder``: the database's, None if it is elsewhere."""
    return {
        "processor": _processor(),
        "cores": psutil.cpu_count(),
        "memoryBytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "filesystem": None if folder is None else _filesystem(folder),
    }


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _filesystem(folder: Path) -> str | None:
    """The file system's type: on one in memory a durable commit costs nothing."""
    resolved = folder.resolve()
    mounted = [
        (len(partition.mountpoint), partition.fstype)
        for partition in psutil.disk_partitions(all=True)
        if resolved.is_relative_to(partition.mountpoint)
    ]
    return max(mounted)[1] if mounted else None
