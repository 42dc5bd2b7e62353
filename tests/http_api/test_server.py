"""Requests that are under way while the service stops."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import psycopg
import pytest

from core.postgres.sessions import session_conninfo
from tests.support.raw_http import (
    ask,
    connect,
    head,
    post,
)
from tests.support.running_service import Addresses, RunningService
from tests.support.tenant import (
    Tenant,
    event,
    make_tenant,
    until_somebody_waits_for,
)

pytestmark = pytest.mark.anyio

ONE = json.dumps({"events": [event()]}).encode()


async def test_what_was_begun_is_answered_while_the_service_stops(
    server: Addresses, database_url: str
) -> None:
    tenant = await make_tenant(database_url)
    service = RunningService(database_url)
    url = service.start().http
    async with connect(url) as idle, connect(url) as begun, connect(url) as waiting:
        await idle.send(head(tenant.key, "GET", "/healthz"))
        await idle.answer()
        await begun.send(post(tenant.key, ONE)[:-5])
        async with held_up(tenant) as lock:
            await waiting.send(post(tenant.key, ONE))
            await until_somebody_waits_for(lock, tenant)
            stopping = asyncio.create_task(asyncio.to_thread(service.stop))
            assert await idle.rest() == b""
            with pytest.raises(ConnectionError):
                await ask(url, head(None, "GET", "/healthz"))
            await begun.send(ONE[-5:])
        for connection in (begun, waiting):
            answer = await connection.answer()
            assert (answer.status, answer.json["accepted"]) == (202, 1)
            assert answer.headers["connection"] == "close"
        await stopping
    assert len(await tenant.events()) == 2


async def test_what_cannot_be_answered_in_time_is_not_answered_wrongly(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    service = RunningService(database_url, drain_seconds=0.5)
    async with connect(service.start().http) as connection:
        async with held_up(tenant) as lock:
            await connection.send(post(tenant.key, ONE))
            await until_somebody_waits_for(lock, tenant)
            stopping = asyncio.create_task(asyncio.to_thread(service.stop))
            assert await connection.rest() == b""
        await stopping
    assert len(await tenant.events()) == await tenant.used() <= 1


class held_up:  # noqa: N801
    """Hold a lock that every write needs."""

    def __init__(self, tenant: Tenant) -> None:
        self._conninfo = session_conninfo(tenant.database_url)

    async def __aenter__(self) -> psycopg.AsyncConnection[Any]:
        self._db = await psycopg.AsyncConnection.connect(self._conninfo)
        await self._db.execute("LOCK TABLE quota_usage IN EXCLUSIVE MODE")
        return self._db

    async def __aexit__(self, *_: object) -> None:
        await self._db.close()
