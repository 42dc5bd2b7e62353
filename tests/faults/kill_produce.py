"""Kills the server under a saturated stream of `produce`, and counts what is stored.

    python -m tests.faults.kill_produce --events 200000 --kills 20

`produce` streams a file as fast as it can, in small batches. As soon as it is seen that a batch was
committed, by its sequence or by its events, and at most a few random milliseconds later, the server
is killed with SIGKILL and started again: commits and acks are on their way then, and the producer
has more to send. A kill must leave whole batches. After so many kills the file is streamed
to its end. It must end with exactly the events of the file, sequence by sequence; and some kills
must have come between a commit and its ack, or they were too easy. ``test_kill_produce.py``
is a shorter form.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, LiteralString, NamedTuple

import psycopg

from service.postgres.embedded import EmbeddedPostgres
from tests.support.ports import free_port
from tests.support.service_process import PROGRAM, PROJECT, EmbeddedServiceProcess
from tests.support.tenant import Tenant, event

BATCH: Final = 20  # small, so that the stream outlasts the kills and many batches are in flight
MAX_BATCHES_BEFORE: Final = 40  # that a new stream commits before the next kill
INSTANTS: Final = (0.0, 0.0005, 0.001, 0.002, 0.004, 0.008)  # up to so many seconds after a commit
POLL_SECONDS: Final = 0.01
PROGRESS_SECONDS: Final = 30.0
FINISH_SECONDS: Final = 300.0
LAST_WORDS: Final = 2_000  # characters of what `produce` said, if it failed


class Progress(NamedTuple):
    """The producer's row in the database."""

    sequence: int
    accepted: int
    rejected: int


@dataclass(frozen=True)
class Outcome:
    """The end of a run."""

    events: int
    kills: int
    seconds: float
    stored: Counter[int]  # events of each number
    progress: Progress
    summary: dict[str, Any]  # what `produce --json` printed

    @property
    def unacked_batches(self) -> int:
        """Batches that the producer found committed when it came back: their acks were lost."""
        return int(self.summary["alreadyStored"]) // BATCH

    def check(self, kills: int) -> None:
        """Exactly the events of the file, and no easy run."""
        batches = -(-self.events // BATCH)
        sequences = range(1, batches + 1)
        times = {one: [self.stored[number] for number in self._numbers(one)] for one in sequences}
        missing = [one for one in sequences if min(times[one]) < 1]
        doubled = [one for one in sequences if max(times[one]) > 1]
        assert not doubled, f"{len(doubled)} sequences are stored twice, the first is {doubled[0]}"
        assert not missing, f"{len(missing)} sequences miss events, the first is {missing[0]}"
        assert self.stored.total() == self.events
        assert self.progress == (batches, self.events, 0)
        said = self.summary
        assert said["finished"]
        assert said["accepted"] + said["alreadyStored"] == said["lines"] == self.events
        assert self.kills >= kills, f"only {self.kills} kills"
        assert self.unacked_batches > 0, "no kill came between a commit and its ack"

    def _numbers(self, sequence: int) -> range:
        return range((sequence - 1) * BATCH, min(sequence * BATCH, self.events))


def run(folder: Path, events: int, kills: int, seed: int) -> Outcome:
    """Stream ``events`` events through ``kills`` kills, each while there is more to send."""
    instants = random.Random(seed)
    file = folder / "events.ndjson"
    with file.open("w") as lines:
        for number in range(events):
            lines.write(json.dumps(event(f"user-{number % 97}", metadata={"n": number})) + "\n")
    service = EmbeddedServiceProcess(folder, grpc=f"127.0.0.1:{free_port()}")
    service.start()
    tenant = service.tenant()
    said = folder / "produce.stderr"
    began = time.monotonic()
    with said.open("wb") as errors:
        producing = subprocess.Popen(
            [*PROGRAM, "produce", file, "--server", service.grpc, "--batch", f"{BATCH}", "--json"],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(PROJECT), "WEPEOPLE_API_KEY": tenant.key},
        )
    with producing:  # waits, and closes its pipe
        try:
            reached = 0
            for _ in range(kills):
                reached = _kill(service, tenant, reached, instants)
                assert reached * BATCH < events, "the stream was over before the last kill"
                assert producing.poll() is None, _end_of(said)
                service.start()
            output, _ = producing.communicate(timeout=FINISH_SECONDS)
            assert producing.returncode == 0, _end_of(said)
            seconds = time.monotonic() - began
            with _database(service) as db:
                stored, progress = _stored(db, tenant), _progress(db, tenant)
        finally:
            producing.kill()
            service.kill()
    return Outcome(events, kills, seconds, stored, progress, json.loads(output))


def _end_of(file: Path) -> str:
    return f"produce said:\n{file.read_text()[-LAST_WORDS:]}"


def _kill(
    service: EmbeddedServiceProcess, tenant: Tenant, reached: int, instants: random.Random
) -> int:
    """Kill in the middle of a stream that flows again; returns the sequence committed then."""
    target = reached + instants.randint(1, MAX_BATCHES_BEFORE)
    deadline = time.monotonic() + PROGRESS_SECONDS
    with _database(service) as db:
        while _progress(db, tenant).sequence < target:
            assert time.monotonic() < deadline, "the producer does not come back"
            time.sleep(POLL_SECONDS)
        # Of the two halves of a commit, whichever could come first.
        watched = instants.choice((_NEWEST_SEQUENCE, _NEWEST_EVENT))
        before = _value(db, watched, tenant)
        while _value(db, watched, tenant) == before:  # without a pause, to be there in time
            assert time.monotonic() < deadline, "the stream has stopped"
        time.sleep(instants.uniform(0, instants.choice(INSTANTS)))
        service.kill()
        counted, stored = _counts(db, tenant)
        assert counted == stored, f"{counted} events are counted as stored, {stored} are"
        return _progress(db, tenant).sequence


@contextlib.contextmanager
def _database(service: EmbeddedServiceProcess) -> Iterator[psycopg.Connection[Any]]:
    with (
        EmbeddedPostgres(service.data_dir).acquire() as lease,
        psycopg.connect(lease.conninfo, autocommit=True) as db,
    ):
        yield db


_NEWEST_SEQUENCE: Final = "SELECT sequence FROM producers WHERE organization_id = %s"
_NEWEST_EVENT: Final = "SELECT id FROM events WHERE organization_id = %s ORDER BY id DESC LIMIT 1"
_COUNTS: Final = """
SELECT accepted, (SELECT count(*) FROM events e WHERE e.organization_id = p.organization_id)
FROM producers p WHERE organization_id = %s
"""


def _value(db: psycopg.Connection[Any], query: LiteralString, tenant: Tenant) -> object:
    return db.execute(query, (tenant.organization.id,)).fetchone()


def _counts(db: psycopg.Connection[Any], tenant: Tenant) -> tuple[int, int]:
    """The events that the producer's row counts and those that are there, at one moment."""
    row = db.execute(_COUNTS, (tenant.organization.id,)).fetchone()
    assert row is not None
    counted, stored = row
    return counted, stored


def _progress(db: psycopg.Connection[Any], tenant: Tenant) -> Progress:
    row = db.execute(
        "SELECT sequence, accepted, rejected FROM producers WHERE organization_id = %s",
        (tenant.organization.id,),
    ).fetchone()
    return Progress(*row) if row else Progress(0, 0, 0)


def _stored(db: psycopg.Connection[Any], tenant: Tenant) -> Counter[int]:
    rows = db.execute(
        "SELECT (metadata->>'n')::int, count(*) FROM events WHERE organization_id = %s GROUP BY 1",
        (tenant.organization.id,),
    ).fetchall()
    return Counter(dict(rows))


def main() -> None:
    """Run it and say in one line what came of it; exits 1 if the promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="wepeople-kills-"))
    try:
        outcome = run(folder, options.events, options.kills, options.seed)
        outcome.check(options.kills)
    except AssertionError as error:
        print(f"FAILED (seed {options.seed}): {error}")
        sys.exit(1)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(
        f"OK (seed {options.seed}): {outcome.stored.total():,} events stored, each once, in "
        f"{outcome.progress.sequence:,} sequences through {outcome.kills} kills; "
        f"{outcome.unacked_batches} batches were committed without an ack; "
        f"{outcome.seconds:.0f} s"
    )


if __name__ == "__main__":
    main()
