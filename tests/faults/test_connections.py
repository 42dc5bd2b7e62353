"""Connections to PostgreSQL are lost, at rest and under load, and replaced."""

from __future__ import annotations

import asyncio
import json
import time

import httpx
import psycopg
import pytest

from tests.faults.conftest import Client, check_unavailable
from tests.support.postgres_proxy import PostgresProxy
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio


async def test_terminated_connections_are_replaced_unnoticed(
    client: Client, database_url: str
) -> None:
    assert (await client.post()).status_code == 202
    for _ in range(3):
        with psycopg.connect(database_url) as db:
            db.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND application_name LIKE 'wepeople-ingest%'"
            )
        responses = await asyncio.gather(*(client.post() for _ in range(5)))
        assert [response.status_code for response in responses] == [202] * 5
    assert await client.stored() == 32


async def test_connections_cut_under_load_lose_nothing(
    proxy: PostgresProxy, client: Client
) -> None:
    async def cut() -> None:
        for _ in range(10):
            await asyncio.sleep(0.05)
            proxy.cut()

    async def post() -> bool:
        responses = await asyncio.gather(*(client.post() for _ in range(4)))
        for response in responses:
            if response.status_code == 202:
                accepted.append(response)
            else:
                check_unavailable(response)
        return cutting.done() and bool(accepted)

    accepted: list[httpx.Response] = []
    cutting = asyncio.create_task(cut())
    await eventually(post, "the service accepts again", poll_seconds=0)
    await cutting
    assert await client.stored() == 2 * len(accepted)


@pytest.mark.timed
@pytest.mark.parametrize("fault", ["none", "cut", "frozen"])
async def test_a_revocation_is_in_force_within_a_second_even_unheard(
    proxy: PostgresProxy, client: Client, fault: str
) -> None:
    for _ in range(20):
        assert (await client.post()).status_code == 202
        await asyncio.sleep(0.02)
    if fault == "cut":
        proxy.refuses_notifications = True
        proxy.cut(notifications_only=True)
    elif fault == "frozen":
        proxy.freeze_notifications()
    await client.tenant.revoke()
    revoked = time.monotonic()
    last_accepted = revoked
    while time.monotonic() < revoked + 2:
        sent = time.monotonic()
        response = await client.post()
        if response.status_code == 202:
            last_accepted = sent
        else:
            assert json.loads(response.content)["error"]["code"] == "key_revoked"
        await asyncio.sleep(0.02)
    assert last_accepted - revoked < 1
