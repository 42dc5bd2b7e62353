"""Faults and pressures mixed at random for minutes, with a ledger of every acknowledged event.

    python -m tests.pressure.soak --seconds 600 --seed 7

Clients of three kinds (REST, IngestEvents, a stream of a producer) send batches until each is
acknowledged, partly through connections that are cut. Meanwhile the server is killed, told to stop,
loses its PostgreSQL sessions or sees one crash, and strangers and tenants make every pressure. The
clients must get on after each; in the end what was acknowledged must be stored once, and all of a
batch or nothing. The seed is printed: with it the same faults and pressures come in the same order.

First a short soak meets a service that answers before it commits (weakened.py), which it must
catch: a soak that cannot see lost events proves nothing. Exits 0 if that was caught, and the
service itself kept its promises.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import secrets
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg

from tests.pressure.child import Child
from tests.pressure.databases import databases
from tests.pressure.kinds import PRESSURES
from tests.pressure.ledger import Ledger, stored_events, wrong_totals
from tests.pressure.load import take_descriptors
from tests.pressure.pressure import Target
from tests.pressure.service import PROGRAM, Service
from tests.pressure.writers import SoakError, Writers, run_writers
from tests.support.tcp_proxy import TcpProxy

WEAKENED: Final = "tests.pressure.weakened"
WEAKENED_SECONDS: Final = 20.0
CLIENTS: Final = 3  # of each kind
PROGRESS_BATCHES: Final = 30  # acknowledged after a fault before the next one
PROGRESS_SECONDS: Final = 60.0
END_SECONDS: Final = 60.0
PRESSURE_SECONDS: Final = (2.0, 8.0)
SHOWN: Final = 20  # problems


@dataclass
class Outcome:
    """What a soak ended with."""

    seed: int
    seconds: float = 0.0
    done: Counter[str] = field(default_factory=Counter)
    batches: int = 0
    events: int = 0
    pressure_events: int = 0  # acknowledged to those who made the pressures
    peak_mib: float = 0.0
    slowest_progress_seconds: float = 0.0
    problems: list[str] = field(default_factory=list)


class Soak:
    """One soak of a service on a database."""

    def __init__(self, service: Service, seed: int, report: Callable[[str], None]) -> None:
        self._service = service
        self._random = random.Random(seed)
        self._report = report
        self._ledger = Ledger()
        self._loud: list[tuple[str, dict[str, Any]]] = []  # organization, what its load told
        self.outcome = Outcome(seed)

    async def run(self, seconds: float, names: Sequence[str], clients: int = CLIENTS) -> Outcome:
        """Mix the faults and pressures that are named, for so long."""
        begin = time.monotonic()
        [tenant] = await asyncio.to_thread(self._service.tenants, [{}])
        host, port = self._service.http_address
        async with TcpProxy(f"{host}:{port}") as http, TcpProxy(self._service.grpc) as grpc:
            self._proxies = (http, grpc)
            writers = Writers(self._ledger, tenant["key"], http.address, grpc.address)
            running = asyncio.create_task(run_writers(writers, clients))
            try:
                await self._progress(running)
                while time.monotonic() < begin + seconds:
                    await self._one(self._random.choice(names))
                    await self._progress(running)
                writers.ending = True
                async with asyncio.timeout(END_SECONDS):
                    await running
            except* (SoakError, TimeoutError) as errors:
                self.outcome.problems += [repr(error) for error in errors.exceptions]
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
        await asyncio.to_thread(self._judge, tenant["organization"])
        self.outcome.seconds = time.monotonic() - begin
        return self.outcome

    async def _one(self, name: str) -> None:
        self._report(f"{name} ({len(self._ledger.acknowledged)} batches acknowledged)")
        self.outcome.done[name] += 1
        if name not in PRESSURES:
            await FAULTS[name](self)
            return
        fault = self._random.choice((None, None, *FAULTS))
        seconds = self._random.uniform(*PRESSURE_SECONDS)
        [loud] = await asyncio.to_thread(self._service.tenants, [PRESSURES[name].tenant])
        pressing = asyncio.create_task(asyncio.to_thread(self._press, name, loud, seconds))
        if fault is not None:
            await asyncio.sleep(self._random.uniform(0, seconds))  # in the middle of it
            self._report(f"    and {fault}")
            self.outcome.done[fault] += 1
            await FAULTS[fault](self)
        await pressing

    def _press(self, name: str, loud: dict[str, Any], seconds: float) -> None:
        host, _, port = self._service.grpc.rpartition(":")
        address = (host, int(port))
        target = Target(
            *(self._service.http_address, address, self._service.database_url),
            *(loud["organization"], loud["key"]),
        )
        told: list[Any] = []
        with Child("tests.pressure.load", {"name": name, "target": vars(target)}, told.append):
            time.sleep(seconds)
        if told and isinstance(told[-1], dict):
            self._loud.append((loud["organization"], told[-1]))

    async def _progress(self, running: asyncio.Task[None]) -> None:
        """Wait until every client could write again."""
        begin = time.monotonic()
        wanted = len(self._ledger.acknowledged) + PROGRESS_BATCHES
        while len(self._ledger.acknowledged) < wanted:
            if running.done():
                running.result()
            if time.monotonic() > begin + PROGRESS_SECONDS:
                raise SoakError(f"no progress in {PROGRESS_SECONDS:.0f} s")
            await asyncio.sleep(0.02)
        took = time.monotonic() - begin
        self.outcome.slowest_progress_seconds = max(self.outcome.slowest_progress_seconds, took)

    def _judge(self, organization: str) -> None:
        outcome, database_url = self.outcome, self._service.database_url
        stored = stored_events(database_url, organization)
        outcome.problems += self._ledger.wrong(stored)
        outcome.batches, outcome.events = len(self._ledger.acknowledged), stored.total()
        for loud, told in self._loud:
            outcome.problems += wrong_totals(stored_events(database_url, loud), told)
            outcome.pressure_events += sum(told["acknowledged"].values())
        with psycopg.connect(database_url) as db:
            wrong = db.execute(_WRONGLY_CHARGED).fetchall()
        outcome.problems += [f"{row[0]} is charged {row[1]} for {row[2]} events" for row in wrong]
        outcome.peak_mib = self._service.peak_mib

    async def kill_server(self) -> None:
        """SIGKILL, and start again."""
        await asyncio.to_thread(self._service.kill)
        await asyncio.to_thread(self._service.restart)

    async def stop_server(self) -> None:
        """SIGTERM, and start again."""
        await asyncio.to_thread(self._service.stop)
        await asyncio.to_thread(self._service.restart)

    async def end_sessions(self) -> None:
        """Have PostgreSQL end the service's sessions."""
        await asyncio.to_thread(self._sessions, "pg_terminate_backend(pid)")

    async def crash_postgres(self) -> None:
        """Kill a PostgreSQL backend, so that all of it recovers from a crash."""
        pids = await asyncio.to_thread(self._sessions, "pid")
        if pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(min(pids), signal.SIGKILL)

    async def cut_connections(self) -> None:
        """Reset the clients' connections, in the middle of whatever they do."""
        for proxy in self._proxies:
            proxy.cut()

    def _sessions(self, what: str) -> list[int]:
        query = (
            f"SELECT {what}::int FROM pg_stat_activity WHERE backend_type = 'client backend' "  # noqa: S608
            "AND datname = current_database() AND pid <> pg_backend_pid()"
        )
        try:
            with psycopg.connect(self._service.database_url) as db:
                return [int(row[0]) for row in db.execute(query.encode()).fetchall()]
        except psycopg.OperationalError:
            return []  # it recovers from the crash before


FAULTS: Final[dict[str, Callable[[Soak], Any]]] = {
    one.__name__: one
    for one in (
        *(Soak.kill_server, Soak.stop_server, Soak.end_sessions),
        *(Soak.crash_postgres, Soak.cut_connections),
    )
}
_WRONGLY_CHARGED: Final = """
SELECT organization_id, charged, stored
FROM (SELECT organization_id, sum(used) AS charged FROM quota_usage GROUP BY 1) AS usage
FULL JOIN (SELECT organization_id, count(*) AS stored FROM events GROUP BY 1) AS events
    USING (organization_id)
WHERE COALESCE(charged, 0) <> COALESCE(stored, 0)
"""


def soak(
    database_url: str, seconds: float, seed: int, names: Sequence[str], *, module: str = PROGRAM
) -> Outcome:
    """Soak a service on an empty database."""

    def report(line: str) -> None:
        print(f"{time.monotonic() - begin:7.1f} s  {line}", file=sys.stderr, flush=True)

    begin = time.monotonic()
    with Service(database_url, module=module) as service:
        return asyncio.run(Soak(service, seed, report).run(seconds, names))


def main() -> int:
    """The weakened service, then the service."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31))
    parser.add_argument("--json", action="store_true", help="a document for tools")
    arguments = parser.parse_args()
    take_descriptors()
    print(f"seed {arguments.seed}", file=sys.stderr, flush=True)
    with databases() as create:
        print("a service that answers before it commits:", file=sys.stderr, flush=True)
        weak = soak(create(), WEAKENED_SECONDS, arguments.seed, ["kill_server"], module=WEAKENED)
        caught = any("was acknowledged" in problem for problem in weak.problems)
        print("the service itself:", file=sys.stderr, flush=True)
        outcome = soak(create(), arguments.seconds, arguments.seed, [*FAULTS, *FAULTS, *PRESSURES])
    if arguments.json:
        print(json.dumps({"weakenedServiceCaught": caught, **vars(outcome)}, indent=1))
    else:
        print_report(outcome, caught=caught)
    return int(bool(outcome.problems) or not caught)


def print_report(outcome: Outcome, *, caught: bool) -> None:
    """For people."""
    print(f"a service that answers before it commits is caught: {'yes' if caught else 'NO'}")
    print(f"seed {outcome.seed}, {outcome.seconds:.0f} s, {outcome.done.total()} faults, pressures")
    for name, count in outcome.done.most_common():
        print(f"    {count:4} {name}")
    print(f"{outcome.batches} batches acknowledged, {outcome.events} events stored")
    print(f"{outcome.pressure_events} events acknowledged to those who made the pressures")
    print(f"slowest to get on after one: {outcome.slowest_progress_seconds:.1f} s")
    print(f"peak memory: {outcome.peak_mib:.0f} MiB")
    print("kept every promise" if not outcome.problems else f"{len(outcome.problems)} PROBLEMS:")
    for problem in outcome.problems[:SHOWN]:
        print(f"    {problem}")


if __name__ == "__main__":
    sys.exit(main())
