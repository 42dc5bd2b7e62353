"""The service of any checkout in a process of its own, and what can be seen of it from outside."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final, Self
from urllib.parse import urlsplit

import httpx
import psutil

from tests.pressure.child import OWN_PROJECT

START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 40.0
SAMPLE_SECONDS: Final = 0.05
MIB: Final = 1_048_576
PROGRAM: Final = "service.cli"


class Service:
    """``serve`` on a database and free ports; a context manager that ends it.

    ``descriptors``: its ``ulimit -n``, soft and hard. ``module``: the program.
    """

    def __init__(
        self,
        database_url: str,
        *,
        project: Path = OWN_PROJECT,
        descriptors: int | None = None,
        module: str = PROGRAM,
        addresses: Sequence[str] = ("127.0.0.1:0", "127.0.0.1:0"),
        log: IO[bytes] | None = None,
    ) -> None:
        self.database_url = database_url
        self.project = project
        self._descriptors = descriptors
        self._module = module
        self._addresses = addresses
        self._log = log
        self._over = threading.Event()
        self.peak_mib = 0.0

    def start(self) -> None:
        """Start it; returns once it accepts traffic."""
        arguments = ["--http", self._addresses[0], "--grpc", self._addresses[1]]
        self.process = subprocess.Popen(
            [*self._limited(), sys.executable, "-m", self._module, "serve", "--json", *arguments],
            cwd=self.project,
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], START_SECONDS)[0], "not ready"
        line = self.process.stdout.readline()
        assert line, f"it ended with status {self.process.wait(5)}"
        ready = json.loads(line)
        self.url, self.grpc = str(ready["http"]), str(ready["grpc"])
        self._seen = psutil.Process(self.process.pid)

    def _limited(self) -> list[str]:
        if self._descriptors is None:
            return []
        most = min(self._descriptors, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        return ["sh", "-c", 'ulimit -n "$0" && exec "$@"', str(most)]

    def _environment(self) -> dict[str, str]:
        kept = {n: v for n, v in os.environ.items() if not n.startswith("WEPEOPLE_")}
        return {
            **kept,
            "PYTHONPATH": os.fspath(self.project),
            "DATABASE_URL": self.database_url,
            "WEPEOPLE_LOG_LEVEL": "error",
        }

    def __enter__(self) -> Self:
        self.start()
        self._sampler = threading.Thread(target=self._sample)
        self._sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._sampler.join()
        self.stop()

    def stop(self) -> None:
        """SIGTERM; SIGKILL if that does not end it in time."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def restart(self) -> None:
        """Start again on the same ports, after it has ended."""
        host, port = self.http_address
        self._addresses = (f"{host}:{port}", self.grpc)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.start()

    @property
    def http_address(self) -> tuple[str, int]:
        """Host and port of the REST API."""
        parts = urlsplit(self.url)
        return str(parts.hostname), int(parts.port or 80)

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self.process.poll() is None

    def is_ready(self) -> bool:
        """Whether ``/readyz`` says so, asked on a new connection."""
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/readyz", timeout=2).status_code == 200
        return False

    def memory_mib(self) -> float:
        """Resident memory; 0 of a process that is gone."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return float(self._seen.memory_info().rss) / MIB
        return 0.0

    def cpu_seconds(self) -> float:
        """CPU that its threads have used, by the scheduler's own count: no ticks of 10 ms."""
        threads = Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")
        return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9

    def _sample(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            self.peak_mib = max(self.peak_mib, self.memory_mib())

    def tenants(self, wanted: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """New organizations, made by the checkout's own code (make_tenants.py)."""
        script = Path(__file__).with_name("make_tenants.py")
        made = subprocess.run(
            [sys.executable, "-P", os.fspath(script), self.database_url],
            input=json.dumps(list(map(dict, wanted))),
            cwd=self.project,
            env=self._environment(),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return list(json.loads(made.stdout))
