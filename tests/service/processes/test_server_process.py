"""Several server processes behind one port for each protocol: together they are one service."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.service.processes.several import (
    CONNECTIONS,
    SERVER_PROCESSES,
    metrics,
    page,
)
from tests.support.driver import Driver, Reply
from tests.support.service_process import PROJECT, EmbeddedServiceProcess
from tests.support.tenant import UNKNOWN_KEY, event, make_tenant
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

# A process without the arguments that its supervisor gives.
START = """
import gc, sys
from service.processes import server_process
assert "service.compose" not in sys.modules
try:
    server_process.main()
except ValueError:
    print(gc.isenabled())
"""


def owners(port: int) -> set[int]:
    """The processes that hold the connections to a port of this machine."""
    inodes = set()
    tables = [Path("/proc/net", name).read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
    for line in itertools.chain(*tables):
        fields = line.split()
        established = fields[3] == "01"
        if established and int(fields[1].split(":")[1], 16) == port:
            inodes.add(f"socket:[{fields[9]}]")
    found = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if os.readlink(link) in inodes:
                found.add(int(link.parts[2]))
    return found


async def test_every_server_process_answers_on_the_one_port_of_each_protocol(
    shared_service: EmbeddedServiceProcess, drivers: list[Driver], shared_database: str
) -> None:
    tenant = await make_tenant(shared_database)
    replies = await asyncio.gather(*(driver.ping(tenant.key) for driver in drivers))
    assert {reply.code for reply in replies} == {None}
    processes = shared_service.server_processes()
    assert len(processes) == SERVER_PROCESSES
    for given in (shared_service.url, shared_service.grpc):
        port = int(given.rpartition(":")[2])
        assert owners(port) - {os.getpid()} == processes
    assert json.loads(page(shared_service.url, "/readyz").text) == {"status": "ready"}


async def test_the_quota_is_exact_across_server_processes(
    drivers: list[Driver], shared_database: str
) -> None:
    tenant = await make_tenant(shared_database, monthly_quota=500)
    replies = await asyncio.gather(
        *(
            drivers[n % len(drivers)].ingest(tenant.key, [event(f"w-{n % 9}")] * 7)
            for n in range(100)
        )
    )
    accepted = sum(len(reply.accepted) for reply in replies)
    assert accepted == len(await tenant.events()) == await tenant.used() == 500


async def test_an_idempotency_key_is_stored_once_across_server_processes(
    drivers: list[Driver], shared_database: str
) -> None:
    tenant = await make_tenant(shared_database)
    of_http = [driver for driver in drivers if driver.name == "http"]

    async def send(batch: int, client: int) -> Reply:
        return await of_http[client].ingest(tenant.key, [event(f"w-{batch}")] * 2, f"batch-{batch}")

    for batch in range(10):
        replies = await asyncio.gather(*(send(batch, client) for client in range(8)))
        assert len({str(reply.answer) for reply in replies}) == 1
        assert [reply.replayed for reply in replies].count(False) == 1
    assert len(await tenant.events()) == await tenant.used() == 20


async def test_a_rate_limit_holds_for_all_server_processes_together(
    drivers: list[Driver], shared_database: str
) -> None:
    rate = 10  # so that a busy machine does not take as long as they all need
    tenant = await make_tenant(shared_database, key_requests_per_second=rate)
    first = await drivers[0].ping(tenant.key)
    assert first.rate_remaining == rate - 1
    await asyncio.sleep(1.1)
    begin = time.monotonic()
    replies = await asyncio.gather(*(driver.ping(tenant.key) for driver in drivers * 2))
    most = rate + rate * (time.monotonic() - begin)
    admitted = [reply.code for reply in replies].count(None)
    assert rate <= admitted <= most
    assert {reply.code for reply in replies} == {None, "rate_limited"}


async def test_metrics_cover_all_server_processes_and_name_nobody(
    shared_service: EmbeddedServiceProcess, drivers: list[Driver], shared_database: str
) -> None:
    tenant = await make_tenant(shared_database)
    before = metrics(shared_service.url)
    wrong = event("w-1", eventType="never.allowed")
    for driver in drivers:
        assert (await driver.ingest(tenant.key, [event(), event(), wrong])).code is None
    assert (await drivers[0].ping(UNKNOWN_KEY)).code == "invalid_key"
    series = 'wepeople_requests_total{code="invalid_key",endpoint="ping",protocol="http"}'
    count = len(drivers)
    grows = {series: 1.0, "wepeople_events_accepted_total": 2 * count} | {
        f'wepeople_requests_total{{code="ok",endpoint="events",protocol="{protocol}"}}': count / 2
        for protocol in ("http", "grpc")
    }

    def is_counted() -> bool:  # once it is answered
        seen = metrics(shared_service.url)
        return all(seen.get(name, 0) - before.get(name, 0) >= by for name, by in grows.items())

    await eventually(is_counted, "all requests are counted")
    pages = [metrics(shared_service.url) for _ in range(CONNECTIONS)]

    def grown(series: str) -> set[float]:
        return {seen[series] - before.get(series, 0) for seen in pages}

    for name, by in grows.items():
        assert grown(name) == {by}
    assert grown('wepeople_events_rejected_total{code="forbidden_event_type"}') == {count}
    assert grown('wepeople_journal_transactions_total{outcome="committed"}') == {count}
    assert grown("wepeople_journal_commit_seconds_count") == {count}
    assert grown("wepeople_journal_transaction_events_sum") == {2 * count}
    for seen in pages:
        assert (
            seen["wepeople_server_processes"]
            == seen["wepeople_server_processes_ready"]
            == SERVER_PROCESSES
        )
        assert seen["wepeople_journal_waiting_requests"] == seen["wepeople_open_streams"] == 0
    text = page(shared_service.url, "/metrics").text
    for name in (tenant.key, tenant.organization_id, tenant.organization.name, "crm-hub"):
        assert name not in text
    assert set(re.findall(r'[{,](\w+)="', text)) == {
        "protocol",
        "endpoint",
        "code",
        "outcome",
        "le",
        "budget",
        "bound",
        "pool",
        "process",
        "python",
        "version",
    }


def test_the_service_is_imported_once_the_collector_is_postponed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", START], capture_output=True, text=True, check=True, cwd=PROJECT
    )
    assert done.stdout == "False\n"
