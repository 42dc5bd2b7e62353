"""The service as it is run in production: the program, in a process that can be killed."""

from __future__ import annotations

import asyncio
import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg

from service.postgres.embedded import EmbeddedPostgres
from tests.support.tenant import Tenant, event, make_tenant

PROGRAM = [sys.executable, "-c", "from service.cli.main import main; main()"]
PROJECT = Path(__file__).parents[2]
START_SECONDS = 30.0


def until(condition: Callable[[], bool], seconds: float) -> None:
    """Wait, within bounds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def is_alive(pid: int | None) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    if pid is None:
        return False
    listing = ["ps", "-o", "stat=", "-p", str(pid)]
    state = subprocess.run(listing, capture_output=True, check=False).stdout.strip()
    return bool(state) and not state.startswith(b"Z")


class Served:
    """One data folder, and the process that serves it, if it runs."""

    def __init__(self, data_dir: Path, grpc: str = "127.0.0.1:0", workers: int = 1) -> None:
        self.data_dir = data_dir
        self.log = data_dir.parent / "log"
        self.url = ""
        self._workers = workers
        self.grpc = self._grpc = grpc
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; returns when it accepts traffic."""
        environment = {
            **{name: value for name, value in os.environ.items() if name != "DATABASE_URL"},
            "PYTHONPATH": os.fspath(PROJECT),
            "WEPEOPLE_DATA_DIR": os.fspath(self.data_dir),
            "WEPEOPLE_LOG_LEVEL": "error",
        }
        addresses = ["--http", "127.0.0.1:0", "--grpc", self._grpc]
        log = self.log.open("ab")
        self._process = subprocess.Popen(
            [*PROGRAM, "serve", "--json", "--workers", str(self._workers), *addresses],
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
            cwd=self.data_dir.parent,
        )
        log.close()
        assert self._process.stdout is not None
        assert select.select([self._process.stdout], [], [], START_SECONDS)[0], "not ready"
        ready = json.loads(self._process.stdout.readline())
        assert ready["event"] == "ready"
        self.url, self.grpc = ready["http"], ready["grpc"]

    @property
    def pid(self) -> int:
        """The process that was started."""
        assert self._process is not None
        return self._process.pid

    def workers(self) -> set[int]:
        """The process ids of its workers."""
        listing = ["ps", "-o", "pid=,args=", "--ppid", str(self.pid)]
        lines = subprocess.run(listing, capture_output=True, text=True, check=False).stdout
        return {
            int(line.split()[0])
            for line in lines.splitlines()
            if "service.processes.server_process" in line
        }

    def kill(self) -> None:
        """SIGKILL."""
        self._end(signal.SIGKILL)

    def terminate(self) -> int:
        """SIGTERM; returns the exit status."""
        return self._end(signal.SIGTERM)

    def send(self, number: signal.Signals) -> None:
        """Send a signal, and do not wait for what becomes of it."""
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self) -> int:
        """The exit status."""
        assert self._process is not None
        assert self._process.stdout is not None
        status = self._process.wait(START_SECONDS)
        self._process.stdout.close()
        self._process = None
        return status

    def _end(self, number: signal.Signals) -> int:
        if self._process is None:
            return 0
        self.send(number)
        return self.wait()

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

    def batches(self, tenant: Tenant) -> Counter[str]:
        """How many events of each batch are stored."""
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


@dataclass
class Load:
    """Clients that post batch after batch, each again under its key until it is acknowledged."""

    served: Served
    tenant: Tenant
    sent: Counter[str] = field(default_factory=Counter)  # events of each batch
    acknowledged: set[str] = field(default_factory=set)
    answers: list[httpx.Response] = field(default_factory=list)
    ending: bool = False

    async def client(self, name: int) -> None:
        """One client; ends after a batch, once it shall."""
        random_ = random.Random(name)
        async with httpx.AsyncClient(timeout=20) as http:
            number = 0
            while not self.ending:
                number += 1
                batch = f"{name}-{number}"
                count = self.sent[batch] = random_.choice([1, 3, 40])
                events: list[dict[str, Any]] = [
                    event(f"w-{n % 7}", metadata={"batch": batch, "n": n}) for n in range(count)
                ]
                while True:
                    if await self._post(http, batch, events):
                        self.acknowledged.add(batch)
                        break
                    await asyncio.sleep(0.05)

    async def _post(self, http: httpx.AsyncClient, batch: str, events: object) -> bool:
        headers = {"Authorization": f"Bearer {self.tenant.key}", "Idempotency-Key": batch}
        url = f"{self.served.url}/api/v1/ingest/events"
        try:
            response = await http.post(url, json={"events": events}, headers=headers)
        except httpx.TransportError:
            return False
        self.answers.append(response)
        if response.status_code == 500:
            assert response.json()["error"]["code"] == "internal_error"
            assert int(response.headers["retry-after"]) >= 1
            return False
        assert response.status_code == 202, response.text
        assert response.json()["accepted"] == self.sent[batch]
        return True

    async def run(self, faults: Callable[[], None], clients: int = 6) -> None:
        """Load the service while faults happen, and until every client got its answer."""
        async with asyncio.TaskGroup() as group:
            for name in range(clients):
                group.create_task(self.client(name))
            try:
                await asyncio.to_thread(faults)
            finally:
                self.ending = True

    def check(self, stored: Counter[str]) -> None:
        """Every batch was acknowledged in the end, and is there whole and once."""
        assert self.acknowledged == set(self.sent)
        assert stored == self.sent
