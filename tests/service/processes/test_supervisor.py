"""The supervisor: the ends of server processes, and its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import psycopg
import pytest

from core.postgres.sessions import session_conninfo
from tests.service.processes.several import (
    CONNECTIONS,
    GONE_SECONDS,
    SERVER_PROCESSES,
    metrics,
    page,
)
from tests.support.batch_load import BatchLoad
from tests.support.raw_http import ONE, connect, post
from tests.support.service_process import EmbeddedServiceProcess, is_alive
from tests.support.tenant import Tenant, event, until_somebody_waits_for
from tests.support.waiting import wait_until

pytestmark = pytest.mark.anyio


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
    wait_until(
        lambda: not any(map(is_alive, remaining)), "the process is gone", seconds=GONE_SECONDS
    )


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
    async with locked_quota(tenant) as lock, connect(own_service.url) as waiting:
        await waiting.send(post(tenant.key, ONE))
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
        await waiting.send(post(tenant.key, ONE))
        await until_somebody_waits_for(lock, tenant)
        own_service.send_signal(signal.SIGINT)
        await asyncio.sleep(1)  # two that come together are one
        begin = time.monotonic()
        own_service.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(own_service.exit_status) == 1
        assert time.monotonic() - begin < 5  # the drain takes ten
        assert await waiting.rest() == b""
    wait_until(
        lambda: not any(map(is_alive, processes)), "the process is gone", seconds=GONE_SECONDS
    )


@contextlib.asynccontextmanager
async def locked_quota(tenant: Tenant) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """Hold a lock that every write needs, until the block ends or closes the connection."""
    conninfo = session_conninfo(tenant.database_url)
    async with await psycopg.AsyncConnection.connect(conninfo) as db:
        await db.execute("LOCK TABLE quota_usage IN EXCLUSIVE MODE")
        yield db
