"""The service as it is run in production: the program, in a process that can be killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import psycopg

from service.postgres.embedded import EmbeddedPostgres
from tests.support.running_service import Addresses
from tests.support.tenant import Tenant, make_tenant
from tests.support.waiting import wait_until

PROGRAM: Final = [sys.executable, "-c", "from service.cli.main import main; main()"]
PROJECT: Final = Path(__file__).parents[2]
ANY_PORT: Final = "127.0.0.1:0"
START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 30.0
MEMORY_INTERVAL_SECONDS: Final = 0.2


def is_alive(pid: int | None) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    if pid is None:
        return False
    listing = ["ps", "-o", "stat=", "-p", str(pid)]
    state = subprocess.run(listing, capture_output=True, check=False).stdout.strip()
    return bool(state) and not state.startswith(b"Z")


class ServiceProcess:
    """``wepeople-ingest serve`` in a process of its own, which may be started again and again.

    Settings are given as in the environment; those of the test's own environment do not count.
    """

    def __init__(
        self,
        folder: Path,
        *,
        grpc: str = ANY_PORT,
        server_processes: int = 1,
        **settings: str,
    ) -> None:
        self._folder = folder
        self.log = folder / "log"
        arguments = ["--json", "--workers", str(server_processes), "--http", ANY_PORT]
        self._command = [*PROGRAM, "serve", *arguments, "--grpc", grpc]
        self._environment = {
            **without_settings(os.environ),
            "PYTHONPATH": os.pathsep.join((os.fspath(PROJECT), os.fspath(PROJECT / "client"))),
            "WEPEOPLE_LOG_LEVEL": "error",
            **settings,
        }
        self._database_url = settings.get("DATABASE_URL", "")
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""
        self.grpc = grpc
        self.demo_key: str | None = None
        self.console: str | None = None  # a link that signs in once

    def start(self, *, demo: bool = False) -> None:
        """Start it, with demo data if asked; returns when it accepts traffic.

        Fails with the end of its log.
        """
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._command, *(["--demo"] if demo else [])],
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._environment,
                cwd=self._folder,
            )
        output = self._process.stdout
        assert output is not None
        assert select.select([output], [], [], START_SECONDS)[0], self._end_of_log()
        line = output.readline()
        assert line, self._end_of_log()
        ready = json.loads(line)
        assert ready["event"] == "ready"
        self.url, self.grpc, self.demo_key = ready["http"], ready["grpc"], ready.get("demoKey")
        self.console = ready.get("console")

    def _end_of_log(self) -> str:
        return f"the service is not ready:\n{self.log.read_text()[-2_000:]}"

    @property
    def addresses(self) -> Addresses:
        """Its addresses; that of the database is empty if it is an embedded one."""
        return Addresses(self.url, self.grpc, self._database_url)

    @property
    def pid(self) -> int:
        """The process that was started: the supervisor, if there are several server processes."""
        assert self._process is not None
        return self._process.pid

    def server_processes(self) -> set[int]:
        """The process ids of those that a supervisor has started."""
        listing = ["ps", "-o", "pid=,args=", "--ppid", str(self.pid)]
        lines = subprocess.run(listing, capture_output=True, text=True, check=False).stdout
        return {
            int(line.split()[0])
            for line in lines.splitlines()
            if "service.processes.server_process" in line
        }

    def kill(self) -> None:
        """SIGKILL, if it runs."""
        if self._process is not None:
            self.send_signal(signal.SIGKILL)
            self.exit_status()

    def terminate(self) -> int:
        """SIGTERM; returns the exit status."""
        self.send_signal(signal.SIGTERM)
        return self.exit_status()

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, and do not wait for its effect."""
        assert self._process is not None
        self._process.send_signal(number)

    def exit_status(self) -> int:
        """Wait for its end."""
        assert self._process is not None
        assert self._process.stdout is not None
        status = self._process.wait(STOP_SECONDS)
        self._process.stdout.close()
        self._process = None
        return status

    def memory_mib(self) -> float:
        """Its resident memory."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        match = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert match is not None
        return int(match[1]) / 1024

    def memory_mib_over(self, seconds: float) -> list[float]:
        """Its resident memory, five times a second for that long; blocking."""
        seen = []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            seen.append(self.memory_mib())
            time.sleep(MEMORY_INTERVAL_SECONDS)
        return seen


def without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment without the settings of a service."""
    return {
        name: value
        for name, value in environment.items()
        if name != "DATABASE_URL" and not name.startswith("WEPEOPLE_")
    }


class EmbeddedServiceProcess(ServiceProcess):
    """A service process with an embedded PostgreSQL of its own, in a data folder of its own."""

    def __init__(self, folder: Path, *, grpc: str = ANY_PORT, server_processes: int = 1) -> None:
        self.data_dir = folder / "data"
        super().__init__(
            folder,
            grpc=grpc,
            server_processes=server_processes,
            WEPEOPLE_DATA_DIR=os.fspath(self.data_dir),
        )

    def postmaster(self) -> int | None:
        """The process id of PostgreSQL's first process, if it is said to run."""
        try:
            text = (self.data_dir / "postgres/pgdata-18/postmaster.pid").read_text()
        except FileNotFoundError:
            return None
        return int(text.split()[0])

    def tenant(self, **options: Any) -> Tenant:
        """An organization in its database; options as :func:`tests.support.tenant.make_tenant`."""
        with EmbeddedPostgres(self.data_dir).acquire() as lease:
            return asyncio.run(make_tenant(lease.conninfo, **options))

    def stored_batches(self, tenant: Tenant) -> Counter[str]:
        """How many events of each batch are stored; checks that the quota is charged for them."""
        with (
            EmbeddedPostgres(self.data_dir).acquire() as lease,
            psycopg.connect(lease.conninfo) as db,
        ):
            rows = db.execute(
                "SELECT metadata->>'batch', count(*) FROM events WHERE organization_id = %s "
                "GROUP BY 1",
                (tenant.organization.id,),
            ).fetchall()
            used = db.execute("SELECT sum(used) FROM quota_usage").fetchone()
        stored = Counter({str(batch): int(count) for batch, count in rows})
        assert used is not None
        assert (used[0] or 0) == stored.total(), "the quota is charged for what is stored"
        return stored


@contextlib.contextmanager
def embedded_service(server_processes: int = 1) -> Iterator[EmbeddedServiceProcess]:
    """A service that is not started yet, in a new folder; nothing of either remains."""
    # The path is short: PostgreSQL's socket is in it.
    folder = Path(tempfile.mkdtemp(prefix="wp-", dir="/tmp"))
    service = EmbeddedServiceProcess(folder, server_processes=server_processes)
    try:
        yield service
    finally:
        service.kill()
        wait_until(lambda: not is_alive(service.postmaster()), "PostgreSQL ends", seconds=15)
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def service_on(database_url: str, *, demo: bool = False) -> Iterator[ServiceProcess]:
    """A started service on an existing database; it is drained and stopped in the end."""
    with tempfile.TemporaryDirectory(prefix="wepeople-service-") as folder:
        service = ServiceProcess(Path(folder), DATABASE_URL=database_url)
        try:
            service.start(demo=demo)
            yield service
            service.terminate()
        finally:
            service.kill()
