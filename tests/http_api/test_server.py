"""Requests that are under way while the service stops."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import psycopg
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import http_api.protocol
from core.postgres.sessions import session_conninfo
from tests.support.raw_http import (
    ONE,
    RawConnection,
    ask,
    connect,
    head,
    post,
)
from tests.support.running_service import Addresses, RunningService
from tests.support.tenant import (
    Tenant,
    make_tenant,
    until_somebody_waits_for,
)
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

DRAINS = 4
CLIENTS = 40


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


async def test_no_request_of_a_kept_connection_is_cut_by_a_stop(
    server: Addresses, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The clients send within 0.2 s; on a busy machine they may be late.
    monkeypatch.setattr(http_api.protocol, "STOP_LINGER_SECONDS", 5.0)
    cut = answered = 0
    closes: list[str | None] = []
    for _ in range(DRAINS):
        service = RunningService(database_url)
        url = service.start().http
        stopping = asyncio.Event()

        async def client(url: str, number: int, stopping: asyncio.Event) -> None:
            nonlocal cut, answered
            request = head(None, "GET", "/healthz")
            while True:
                try:
                    connection = await asyncio.open_connection(*host_and_port(url))
                except OSError:
                    return  # refused, nothing was sent
                reader, writer = connection
                raw = RawConnection(reader, writer)
                is_kept = False  # until then nobody may have accepted it yet
                try:
                    while True:
                        await raw.send(request)
                        answer = await raw.answer()
                        answered += 1
                        is_kept = True
                        closed = answer.headers.get("connection")
                        if stopping.is_set():
                            closes.append(closed)
                        if closed == "close":
                            break
                        await asyncio.sleep(number % 20 / 100)
                except (OSError, EOFError):
                    cut += is_kept
                    return
                finally:
                    writer.transport.abort()

        clients = [asyncio.create_task(client(url, n, stopping)) for n in range(CLIENTS)]
        before = answered
        await eventually(lambda b=before: answered > b + 2 * CLIENTS, "all are served")  # type: ignore[misc]
        stop = asyncio.create_task(asyncio.to_thread(service.stop))
        stopping.set()
        await asyncio.gather(stop, *clients)
    assert cut == 0
    assert closes.count("close") >= DRAINS


async def test_a_stopping_service_is_not_ready_first(database_url: str) -> None:
    service = RunningService(database_url, drain_grace_seconds=1.0)
    addresses = service.start()
    async with (
        connect(addresses.http) as kept,
        grpc.aio.insecure_channel(addresses.grpc) as channel,
    ):
        await kept.send(head(None, "GET", "/readyz"))
        assert (await kept.answer()).status == 200
        health: Any = health_pb2_grpc.HealthStub(channel)  # generated, without types
        stop = asyncio.create_task(asyncio.to_thread(service.stop))

        async def status(path: str) -> int:
            return (await ask(addresses.http, head(None, "GET", path))).status

        async def is_not_ready() -> bool:
            return await status("/readyz") == 503

        await eventually(is_not_ready, "readiness is gone")
        assert await status("/healthz") == 200  # and new connections are accepted
        said = await health.Check(health_pb2.HealthCheckRequest())
        assert said.status == health_pb2.HealthCheckResponse.NOT_SERVING
        await kept.send(head(None, "GET", "/healthz"))
        answer = await kept.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        await stop


def host_and_port(url: str) -> tuple[str, int]:
    host, _, port = url.removeprefix("http://").rpartition(":")
    return host, int(port)
