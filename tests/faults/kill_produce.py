"""Kills the server at random instants while `produce` streams a file, and counts what is stored.

    python -m tests.faults.kill_produce --events 200000 --kills 20

The server is killed with SIGKILL and started again each time, until there were that many kills and
the file is done. It must end with exactly the events of the file: no more, no fewer, batch by
batch. CI runs a shorter form (test_kill_produce.py).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg

from service.embedded_postgres import EmbeddedPostgres
from tests.faults.served import PROGRAM, PROJECT, Served
from tests.tenant import Tenant, event

BATCH: Final = 500
KILL_WITHIN_SECONDS: Final = 0.6  # of the first batch after a start
# The key's rate paces the stream so that it outlasts the kills: a start lets this many through.
BATCHES_A_KILL: Final = 0.5
PROGRESS_SECONDS: Final = 30.0
FINISH_SECONDS: Final = 300.0


@dataclass(frozen=True)
class Outcome:
    """What a run ended with."""

    kills: int
    seconds: float
    stored: Counter[int]  # events of each number
    batches_committed: int
    summary: dict[str, object]  # what `produce --json` printed

    def check(self, events: int, kills: int) -> None:
        """Exactly the events of the file, and no easy run."""
        assert self.kills >= kills, f"only {self.kills} kills"
        missing = [number for number in range(events) if not self.stored[number]]
        assert not missing, f"{len(missing)} are missing, the first is {missing[0]}"
        doubled = {number: times for number, times in self.stored.items() if times > 1}
        assert not doubled, f"{len(doubled)} are there more than once"
        assert self.stored.total() == events
        assert self.batches_committed == -(-events // BATCH), "the sequence skips nothing"


def run(folder: Path, events: int, kills: int, seed: int) -> Outcome:
    """Stream ``events`` events through at least ``kills`` kills."""
    instants = random.Random(seed)
    file = folder / "events.ndjson"
    with file.open("w") as lines:
        for number in range(events):
            lines.write(json.dumps(event(f"user-{number % 97}", metadata={"n": number})) + "\n")
    served = Served(folder / "data", f"127.0.0.1:{_free_port()}")
    rate = max(1, round(events / BATCH / kills * BATCHES_A_KILL))
    served.start()
    tenant = served.tenant(key_requests_per_second=rate)
    began = time.monotonic()
    producing = subprocess.Popen(
        [*PROGRAM, "produce", str(file), "--server", served.grpc, "--json"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(PROJECT), "WEPEOPLE_API_KEY": tenant.key},
    )
    killed = 0
    try:
        reached = 0
        while producing.poll() is None and killed < kills:
            reached = _await_progress(served, tenant, reached, producing)
            time.sleep(instants.uniform(0, KILL_WITHIN_SECONDS))
            served.kill()
            killed += 1
            served.start()
        output, _ = producing.communicate(timeout=FINISH_SECONDS)
        assert producing.returncode == 0, f"produce ended with {producing.returncode}"
        seconds = time.monotonic() - began
        stored, batches = _stored(served, tenant)
    finally:
        producing.kill()
        served.kill()
    return Outcome(killed, seconds, stored, batches, json.loads(output))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _await_progress(
    served: Served, tenant: Tenant, reached: int, producing: subprocess.Popen[str]
) -> int:
    """Wait until the stream flows again, so that every kill hits it; returns its sequence."""
    deadline = time.monotonic() + PROGRESS_SECONDS
    while producing.poll() is None:
        sequence = _sequence(served, tenant)
        if sequence > reached:
            return sequence
        assert time.monotonic() < deadline, "the producer does not come back"
        time.sleep(0.02)
    return reached


def _sequence(served: Served, tenant: Tenant) -> int:
    with (
        EmbeddedPostgres(served.data_dir).acquire() as lease,
        psycopg.connect(lease.conninfo) as db,
    ):
        row = db.execute(
            "SELECT sequence FROM producers WHERE organization_id = %s", (tenant.organization.id,)
        ).fetchone()
    return row[0] if row else 0


def _stored(served: Served, tenant: Tenant) -> tuple[Counter[int], int]:
    with (
        EmbeddedPostgres(served.data_dir).acquire() as lease,
        psycopg.connect(lease.conninfo) as db,
    ):
        rows = db.execute(
            "SELECT (metadata->>'n')::int, count(*) FROM events WHERE organization_id = %s "
            "GROUP BY 1",
            (tenant.organization.id,),
        ).fetchall()
    return Counter(dict(rows)), _sequence(served, tenant)


def main() -> None:
    """Run it and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="wepeople-kills-"))
    print(f"seed {options.seed}")
    try:
        outcome = run(folder, options.events, options.kills, options.seed)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    outcome.check(options.events, options.kills)
    print(
        f"{outcome.stored.total():,} events stored, each once, through {outcome.kills} kills "
        f"in {outcome.seconds:.0f} s; produce said {json.dumps(outcome.summary)}"
    )


if __name__ == "__main__":
    main()
