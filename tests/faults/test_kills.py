"""Processes are killed under load: what was acknowledged is there, once; nothing is half there."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator

import httpx
import psycopg
import pytest

from service.postgres.embedded import EmbeddedPostgres
from tests.support.batch_load import BatchLoad
from tests.support.raw_http import connect, post
from tests.support.service_process import EmbeddedServiceProcess, embedded_service, is_alive
from tests.support.tenant import Tenant, event, until_somebody_waits_for
from tests.support.waiting import wait_until

ROUNDS = 5


@pytest.fixture
def service() -> Iterator[EmbeddedServiceProcess]:
    """A service with a database of its own; it is not started yet."""
    with embedded_service() as service:
        yield service


@pytest.fixture
def tenant(service: EmbeddedServiceProcess) -> Tenant:
    """An organization on the service, which is started."""
    service.start()
    return service.tenant()


@pytest.mark.timeout(90)
def test_the_service_is_killed_again_and_again(
    service: EmbeddedServiceProcess, tenant: Tenant
) -> None:
    random_ = random.Random(1)
    load = BatchLoad(service, tenant)

    def kill_and_restart() -> None:
        for _ in range(ROUNDS):
            time.sleep(random_.uniform(0.2, 0.7))  # any moment will do
            service.kill()
            service.start()
        load.acknowledges(1)

    asyncio.run(load.run(kill_and_restart))
    assert len(load.sent) > 20
    load.check(service.stored_batches(tenant))


@pytest.mark.timeout(60)
@pytest.mark.usefixtures("tenant")
def test_a_killed_service_leaves_no_postgresql_behind(service: EmbeddedServiceProcess) -> None:
    postmaster = service.postmaster()
    assert is_alive(postmaster)
    service.kill()
    wait_until(lambda: not is_alive(postmaster), "PostgreSQL ends", seconds=15)


@pytest.mark.timeout(90)
def test_postgresql_is_killed_under_load(service: EmbeddedServiceProcess, tenant: Tenant) -> None:
    load = BatchLoad(service, tenant)

    def kill_postgresql() -> None:
        load.acknowledges(20)
        postmaster = service.postmaster()
        assert postmaster is not None
        for pid in backends(postmaster):
            # After the first, PostgreSQL ends all others itself, and recovers.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until_ready(service, load)
        os.kill(postmaster, signal.SIGKILL)
        wait_until_ready(service, load)

    asyncio.run(load.run(kill_postgresql))
    load.check(service.stored_batches(tenant))
    assert service.terminate() == 0


def backends(postmaster: int) -> list[int]:
    """The processes of PostgreSQL that serve connections."""
    listing = ["ps", "-o", "pid=,args=", "--ppid", str(postmaster)]
    lines = subprocess.run(listing, capture_output=True, check=True, text=True).stdout.splitlines()
    pids = [int(line.split()[0]) for line in lines if "wepeople wepeople" in line]
    assert pids
    return pids


def wait_until_ready(service: EmbeddedServiceProcess, load: BatchLoad) -> None:
    """Wait until batches are acknowledged again, many more than were under way."""
    load.acknowledges(21)
    # It is looked at twice a second, so that it may be behind for a moment.
    wait_until(lambda: httpx.get(f"{service.url}/readyz").status_code == 200, "it is ready")


@pytest.mark.timeout(60)
def test_sigterm_answers_what_was_begun(service: EmbeddedServiceProcess, tenant: Tenant) -> None:
    async def stop_with_requests_under_way() -> list[int]:
        body = json.dumps({"events": [event(metadata={"batch": "x"})]}).encode()
        with EmbeddedPostgres(service.data_dir).acquire() as lease:
            db = await psycopg.AsyncConnection.connect(lease.conninfo)
            await db.execute("LOCK TABLE quota_usage IN EXCLUSIVE MODE")
            waiting = [
                asyncio.create_task(status(service.url, post(tenant.key, body))) for _ in "ab"
            ]
            await until_somebody_waits_for(db, tenant)
            await asyncio.sleep(0.5)  # and the other one is read, too
            service.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.5)
            assert not any(task.done() for task in waiting)
            await db.close()
            return await asyncio.gather(*waiting)

    assert asyncio.run(stop_with_requests_under_way()) == [202, 202]
    assert service.exit_status() == 0
    assert service.stored_batches(tenant) == {"x": 2}


async def status(url: str, request: bytes) -> int:
    """The status of an answer to a request on a connection of its own."""
    async with connect(url) as connection:
        await connection.send(request)
        return (await connection.answer()).status
