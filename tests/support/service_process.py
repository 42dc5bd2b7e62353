"""The service in a process of its own, for what only a whole process shows: its memory."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

from tests.support.running_service import Addresses

STOP_SECONDS = 30


class ServiceProcess:
    """``wepeople-ingest serve`` on a database and free ports; a context manager."""

    def __init__(self, database_url: str, **environment: str) -> None:
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith("WEPEOPLE_")
        }
        self._database_url = database_url
        self._environment = {
            **inherited,
            "DATABASE_URL": database_url,
            "WEPEOPLE_HTTP": "127.0.0.1:0",
            "WEPEOPLE_GRPC": "127.0.0.1:0",
            "WEPEOPLE_LOG_LEVEL": "warning",
            **environment,
        }

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "service.cli", "serve", "--json"],
            cwd=Path(__file__).parents[2],
            env=self._environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        ready = json.loads(self.process.stdout.readline())
        assert ready["event"] == "ready"
        self.addresses = Addresses(ready["http"], ready["grpc"], self._database_url)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        finally:
            self.process.kill()
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()

    def memory(self) -> float:
        """Its resident memory in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        match = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert match is not None
        return int(match[1]) / 1024

    def memory_over(self, seconds: float) -> list[float]:
        """Its resident memory, five times a second for that long; blocking."""
        seen = []
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            seen.append(self.memory())
            time.sleep(0.2)
        return seen
