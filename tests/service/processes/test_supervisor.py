"""Several server processes behind one port for each protocol, and the supervisor over them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from core.postgres.sessions import session_conninfo
from http_api.server import address, bind, reserve
from service.postgres.embedded import EmbeddedPostgres
from tests.support.batch_load import BatchLoad
from tests.support.driver import Driver, Reply
from tests.support.grpc_driver import GrpcDriver
from tests.support.http_driver import HttpDriver
from tests.support.raw_http import connect, post
from tests.support.service_process import (
    PROGRAM,
    EmbeddedServiceProcess,
    embedded_service,
    is_alive,
)
from tests.support.tenant import Tenant, event, make_tenant, until_somebody_waits_for
from tests.support.waiting import wait_until

pytestmark = pytest.mark.anyio

SERVER_PROCESSES = 2
CONNECTIONS = 20  # so that no server process is left out by chance
GONE_SECONDS = 20.0
ANY_PORTS = {"--http": "127.0.0.1:0", "--grpc": "127.0.0.1:0"}


@contextlib.contextmanager
def new_service() -> Iterator[EmbeddedServiceProcess]:
    """A service of several server processes in a folder of its own, of which nothing remains."""
    with embedded_service(SERVER_PROCESSES) as served:
        served.start()
        yield served


@pytest.fixture(scope="module")
def shared_service() -> Iterator[EmbeddedServiceProcess]:
    """The service of the tests that do it no harm."""
    with new_service() as served:
        yield served


@pytest.fixture
def own_service() -> Iterator[EmbeddedServiceProcess]:
    """A service for a test that kills."""
    with new_service() as served:
        yield served


@pytest.fixture(scope="module")
def shared_database(shared_service: EmbeddedServiceProcess) -> Iterator[str]:
    """The database of the shared service."""
    with EmbeddedPostgres(shared_service.data_dir).acquire() as lease:
        yield lease.conninfo


@pytest.fixture
async def drivers(shared_service: EmbeddedServiceProcess) -> AsyncIterator[list[Driver]]:
    """Clients of both protocols, each with a connection of its own."""
    drivers: list[Driver] = []
    for _ in range(CONNECTIONS):
        drivers += [
            HttpDriver(shared_service.url),
            GrpcDriver(shared_service.grpc, own_connection=True),
        ]
    yield drivers
    for driver in drivers:
        await driver.close()


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


def page(url: str, path: str) -> httpx.Response:
    """A page, over a connection of its own, from whichever server process."""
    response = httpx.get(f"{url}{path}")
    assert response.status_code == 200, response.text
    return response


def metrics(url: str) -> dict[str, float]:
    """The metrics page, by series."""
    answer = page(url, "/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    lines = [line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#")]
    return {series: float(value) for series, value in lines}


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
    assert (await drivers[0].ping("wp_live_" + "0" * 32)).code == "invalid_key"
    series = 'wepeople_requests_total{code="invalid_key",endpoint="ping",protocol="http"}'
    deadline = time.monotonic() + 20
    while metrics(shared_service.url).get(series, 0) == before.get(
        series, 0
    ):  # counted once answered
        assert time.monotonic() < deadline
    count = len(drivers)
    pages = [metrics(shared_service.url) for _ in range(CONNECTIONS)]

    def grown(series: str) -> set[float]:
        return {seen[series] - before.get(series, 0) for seen in pages}

    assert grown("wepeople_events_accepted_total") == {2 * count}
    assert grown('wepeople_events_rejected_total{code="forbidden_event_type"}') == {count}
    for protocol in ("http", "grpc"):
        labels = f'{{code="ok",endpoint="events",protocol="{protocol}"}}'
        assert grown(f"wepeople_requests_total{labels}") == {count / 2}
    assert grown(series) == {1}
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
    }


def attempt(database_url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A service that should not start."""
    root = os.fspath(Path(__file__).parents[3])
    return subprocess.run(
        [*PROGRAM, "serve", "--json", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "DATABASE_URL": database_url, "PYTHONPATH": root},
        check=False,
    )


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_port_that_is_taken_is_an_error(
    shared_service: EmbeddedServiceProcess, shared_database: str, protocol: str, workers: str
) -> None:
    # The hardest port is one that the same user's service shares among its processes.
    taken = {"http": shared_service.url.removeprefix("http://"), "grpc": shared_service.grpc}[
        protocol
    ]
    addresses = {**ANY_PORTS, f"--{protocol}": taken}
    done = attempt(shared_database, "--workers", workers, *itertools.chain(*addresses.items()))
    assert (done.returncode, done.stdout) == (1, "")
    assert f"wepeople-ingest: cannot listen on {taken}: " in done.stderr


def test_a_port_is_reserved_before_a_server_process_listens() -> None:
    with reserve("127.0.0.1", 0) as holder:
        host, port = address(holder)
        for rival in (reserve, bind):
            with pytest.raises(OSError, match=f"cannot listen on {host}:{port}: Address already"):
                rival(host, port)
        with bind(host, port, shared=True), bind(host, port, shared=True):
            pass
    with bind(host, port):
        pass


def test_a_port_that_a_stranger_has_is_an_error(shared_database: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        taken = f"127.0.0.1:{stranger.getsockname()[1]}"
        done = attempt(shared_database, "--workers", "2", "--http", "127.0.0.1:0", "--grpc", taken)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"cannot listen on {taken}: Address already in use" in done.stderr


def test_what_no_server_process_can_do_is_one_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_database: str
) -> None:
    (tmp_path / "wrong.pem").write_text("this is no certificate")
    for name in ("CERTIFICATE", "KEY"):
        monkeypatch.setenv(f"WEPEOPLE_GRPC_TLS_{name}", str(tmp_path / "wrong.pem"))
    done = attempt(shared_database, "--workers", "2", *itertools.chain(*ANY_PORTS.items()))
    assert (done.returncode, done.stdout) == (1, "")
    assert "wepeople-ingest: cannot use" in done.stderr
    assert "wrong.pem" in done.stderr


# --- ends ----------------------------------------------------------------------------------------


@pytest.mark.timeout(90)
def test_a_killed_server_process_is_replaced_while_the_others_answer(
    own_service: EmbeddedServiceProcess,
) -> None:
    tenant = own_service.tenant()
    headers = {"Authorization": f"Bearer {tenant.key}"}
    for _ in range(CONNECTIONS):
        body = {"events": [event()]}
        url = f"{own_service.url}/api/v1/ingest/events"
        assert httpx.post(url, json=body, headers=headers).status_code == 202
    before = own_service.server_processes()
    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: not is_alive(victim), "the process is gone", seconds=GONE_SECONDS)
    deadline = time.monotonic() + 40
    ready = 1.0
    while ready < SERVER_PROCESSES:
        assert time.monotonic() < deadline
        assert (
            httpx.get(f"{own_service.url}/api/v1/ingest/ping", headers=headers).status_code == 200
        )
        page(own_service.url, "/readyz")  # half of two is enough
        ready = metrics(own_service.url)["wepeople_server_processes_ready"]
    after = own_service.server_processes()
    assert len(after) == SERVER_PROCESSES
    assert len(after & before) == SERVER_PROCESSES - 1
    counted = metrics(own_service.url)
    assert counted["wepeople_server_process_restarts_total"] == 1
    assert counted["wepeople_events_accepted_total"] == CONNECTIONS  # no counter falls
    lines = [json.loads(line) for line in own_service.log.read_text().splitlines()]
    (said,) = [
        line["message"] for line in lines if line["logger"] == "service.processes.supervisor"
    ]
    assert f"process {victim}) was ended by a signal: Killed" in said


@pytest.mark.timeout(90)
def test_a_killed_supervisor_leaves_nothing_behind(own_service: EmbeddedServiceProcess) -> None:
    remaining = {*own_service.server_processes(), own_service.postmaster()}
    assert len(remaining) == SERVER_PROCESSES + 1
    assert all(map(is_alive, remaining))
    own_service.kill()
    wait_until(lambda: not any(map(is_alive, remaining)), "nothing remains", seconds=GONE_SECONDS)


@pytest.mark.timeout(90)
def test_everything_is_killed_and_stopped_under_load_and_nothing_is_lost(
    own_service: EmbeddedServiceProcess,
) -> None:
    tenant = own_service.tenant()

    def trouble() -> None:
        time.sleep(0.5)
        os.kill(min(own_service.server_processes()), signal.SIGKILL)
        time.sleep(0.5)
        processes = own_service.server_processes()
        assert own_service.terminate() == 0
        assert not any(map(is_alive, processes))
        own_service.start()
        time.sleep(0.5)
        own_service.kill()
        own_service.start()
        time.sleep(0.3)

    load = BatchLoad(own_service, tenant)
    asyncio.run(load.run(trouble))
    load.check(own_service.stored_batches(tenant))


@pytest.mark.timeout(90)
async def test_what_was_begun_is_answered_and_a_second_signal_does_not_wait(
    own_service: EmbeddedServiceProcess,
) -> None:
    tenant = await asyncio.to_thread(own_service.tenant)
    one = json.dumps({"events": [event()]}).encode()
    async with locked_quota(tenant) as lock, connect(own_service.url) as waiting:
        await waiting.send(post(tenant.key, one))
        await until_somebody_waits_for(lock, tenant)
        own_service.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.5)
        assert is_alive(own_service.pid)
        await lock.close()
        assert (await waiting.answer()).status == 202
        assert await asyncio.to_thread(own_service.exit_status) == 0
    await asyncio.to_thread(own_service.start)
    processes = own_service.server_processes()
    async with locked_quota(tenant) as lock, connect(own_service.url) as waiting:
        await waiting.send(post(tenant.key, one))
        await until_somebody_waits_for(lock, tenant)
        own_service.send_signal(signal.SIGINT)
        await asyncio.sleep(1)  # two that come together are one
        begin = time.monotonic()
        own_service.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(own_service.exit_status) == 1
        assert time.monotonic() - begin < 5  # the drain takes ten
        assert await waiting.rest() == b""
    wait_until(lambda: not any(map(is_alive, processes)), "nothing remains", seconds=GONE_SECONDS)


@contextlib.asynccontextmanager
async def locked_quota(tenant: Tenant) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """Hold a lock that every write needs, until the block ends or closes the connection."""
    conninfo = session_conninfo(tenant.database_url)
    async with await psycopg.AsyncConnection.connect(conninfo) as db:
        await db.execute("LOCK TABLE quota_usage IN EXCLUSIVE MODE")
        yield db
