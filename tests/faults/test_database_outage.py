"""A database that is gone for a while, or hangs: the service says so, and goes on afterwards."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.faults.conftest import Client, check_unavailable
from tests.support.postgres_proxy import PostgresProxy
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

# With what a busy machine may add; a database that hangs does so for ever.
READY_SECONDS = 5.0
LOOK_UP_SECONDS = 6.0


async def test_the_service_outlives_its_database(
    proxy: PostgresProxy, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    assert (await client.post()).status_code == 202
    for _ in range(2):
        proxy.go_away()
        response = await client.post("batch-1")
        check_unavailable(response)
        request_id = response.headers["x-request-id"]
        logged = [getattr(record, "request_id", None) for record in caplog.records]
        assert logged.count(request_id) == 1
        not_ready = await client.http.client.get("/readyz")
        assert (not_ready.status_code, not_ready.json()["status"]) == (503, "not ready")
        assert (await client.http.client.get("/healthz")).status_code == 200
        proxy.come_back()
        await eventually(client.is_ready, "the service is ready again", seconds=10)
    assert (await client.post("batch-1")).status_code == 202
    assert await client.stored() == 4


@pytest.mark.timed
@pytest.mark.parametrize("at_commit", [False, True])
async def test_a_database_that_hangs_is_not_waited_for_without_bounds(
    proxy: PostgresProxy, client: Client, at_commit: bool
) -> None:
    get = client.http.client.get
    authorization = {"Authorization": f"Bearer {client.tenant.key}"}

    async def seconds_to_fail(path: str) -> float:
        begin = time.monotonic()
        assert (await get(path, headers=authorization, timeout=30)).status_code in (500, 503)
        return time.monotonic() - begin

    assert (await client.post()).status_code == 202
    if at_commit:
        # The COMMIT goes out, then nothing comes back; the proxy forwards it when it moves again.
        proxy.on_lost_answer = proxy.freeze
        proxy.cut_commits("after")
    else:
        proxy.freeze()
    begun = asyncio.create_task(client.post("batch-1"))
    await eventually(lambda: proxy.is_frozen, "the database hangs", seconds=10)

    async def is_not_ready() -> bool:
        return not await client.is_ready()

    await eventually(is_not_ready, "readiness is gone", seconds=READY_SECONDS)
    assert await seconds_to_fail("/api/v1/ingest/ping") < LOOK_UP_SECONDS
    assert (await get("/healthz")).status_code == 200
    check_unavailable(await begun)  # before its client gives up
    proxy.unfreeze()
    await eventually(lambda: client.is_accepted("batch-1"), "a retry is answered", seconds=15)
    assert await client.stored() == 4
