"""Processes are killed under load: what was acknowledged is there, once; nothing is half there."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest

from service.postgres.embedded import EmbeddedPostgres
from tests.support.raw_http import connect, post
from tests.support.served import Load, Served, is_alive, until
from tests.support.tenant import Tenant, event, until_somebody_waits_for

ROUNDS = 5


@pytest.fixture
def served() -> Iterator[Served]:
    folder = Path(tempfile.mkdtemp(prefix="wp-", dir="/tmp"))
    served = Served(folder / "data")
    try:
        yield served
    finally:
        served.kill()
        until(lambda: not is_alive(served.postmaster()), 15)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def tenant(served: Served) -> Tenant:
    served.start()
    return served.tenant()


@pytest.mark.timeout(90)
def test_the_service_is_killed_again_and_again(served: Served, tenant: Tenant) -> None:
    random_ = random.Random(1)

    def kill_and_restart() -> None:
        for _ in range(ROUNDS):
            time.sleep(random_.uniform(0.2, 0.7))
            served.kill()
            served.start()
        time.sleep(0.3)

    load = Load(served, tenant)
    asyncio.run(load.run(kill_and_restart))
    assert len(load.sent) > 20
    load.check(served.batches(tenant))


@pytest.mark.timeout(60)
def test_a_killed_service_leaves_no_postgresql_behind(served: Served, tenant: Tenant) -> None:
    postmaster = served.postmaster()
    assert is_alive(postmaster)
    served.kill()
    until(lambda: not is_alive(postmaster), 15)


@pytest.mark.timeout(90)
def test_postgresql_is_killed_under_load(served: Served, tenant: Tenant) -> None:
    def kill_postgresql() -> None:
        time.sleep(0.4)
        postmaster = served.postmaster()
        assert postmaster is not None
        for pid in backends(postmaster):
            # After the first, PostgreSQL ends all others itself, and recovers.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until_ready(served, before=len(load.acknowledged), load=load)
        os.kill(postmaster, signal.SIGKILL)
        wait_until_ready(served, before=len(load.acknowledged), load=load)

    load = Load(served, tenant)
    asyncio.run(load.run(kill_postgresql))
    load.check(served.batches(tenant))
    assert served.terminate() == 0


def backends(postmaster: int) -> list[int]:
    """The processes of PostgreSQL that serve connections."""
    listing = ["ps", "-o", "pid=,args=", "--ppid", str(postmaster)]
    lines = subprocess.run(listing, capture_output=True, check=True, text=True).stdout.splitlines()
    pids = [int(line.split()[0]) for line in lines if "wepeople wepeople" in line]
    assert pids
    return pids


def wait_until_ready(served: Served, before: int, load: Load) -> None:
    """Until batches are acknowledged again, many more than were under way."""
    until(lambda: len(load.acknowledged) > before + 20, 30)
    assert httpx.get(f"{served.url}/readyz").status_code == 200


@pytest.mark.timeout(60)
def test_sigterm_answers_what_was_begun(served: Served, tenant: Tenant) -> None:
    async def stop_with_requests_under_way() -> list[int]:
        body = json.dumps({"events": [event(metadata={"batch": "x"})]}).encode()
        with EmbeddedPostgres(served.data_dir).acquire() as lease:
            db = await psycopg.AsyncConnection.connect(lease.conninfo)
            await db.execute("LOCK TABLE quota_usage IN EXCLUSIVE MODE")
            waiting = [
                asyncio.create_task(status(served.url, post(tenant.key, body))) for _ in "ab"
            ]
            await until_somebody_waits_for(db, tenant)
            await asyncio.sleep(0.5)  # and the other one is read, too
            served.send(signal.SIGTERM)
            await asyncio.sleep(0.5)
            assert not any(task.done() for task in waiting)
            await db.close()
            return await asyncio.gather(*waiting)

    assert asyncio.run(stop_with_requests_under_way()) == [202, 202]
    assert served.wait() == 0
    assert served.batches(tenant) == {"x": 2}


async def status(url: str, request: bytes) -> int:
    async with connect(url) as connection:
        await connection.send(request)
        return (await connection.answer()).status
