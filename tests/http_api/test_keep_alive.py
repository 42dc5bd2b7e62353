"""Connections that are kept: for as long as proxies keep theirs, and for not a moment longer."""

from __future__ import annotations

import asyncio
import gc

import pytest

import http_api.server
from http_api.protocol import HttpProtocol
from tests.support.raw_http import ONE, connect, head, post
from tests.support.running_service import Addresses, RunningService
from tests.support.tenant import Tenant, make_tenant
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

PROXY_SECONDS = 60  # of nginx and others; a request meets a closed connection if ours is shorter


def connections() -> int:
    """The connections that are in memory."""
    gc.collect()
    return sum(issubclass(type(one), HttpProtocol) for one in gc.get_objects())


async def test_idle_connections_are_kept_for_longer_than_a_proxy_does() -> None:
    assert http_api.server.KEEP_ALIVE_SECONDS > PROXY_SECONDS


@pytest.mark.parametrize("before", [1, 2], ids=["one answer", "two answers"])
async def test_the_idle_time_of_earlier_answers_does_not_end_a_later_request(
    database_url: str, monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    monkeypatch.setattr(http_api.server, "KEEP_ALIVE_SECONDS", 1)
    tenant = await make_tenant(database_url)
    with RunningService(database_url) as service:
        async with connect(service.addresses.http) as connection:
            await connection.send(post(tenant.key, ONE) * before)
            for _ in range(before):
                assert (await connection.answer()).status == 202
            await connection.send(head(tenant.key, Content_Length=len(ONE)))
            for start in range(0, len(ONE), 1 + len(ONE) // 10):  # takes two seconds
                await asyncio.sleep(0.2)
                await connection.send(ONE[start : start + 1 + len(ONE) // 10])
            assert (await connection.answer()).status == 202
            assert await connection.rest() == b""  # it is idle then, for a second


async def test_nothing_remains_of_connections_that_were_reset(
    server: Addresses, tenant: Tenant
) -> None:
    before = connections()
    for _ in range(20):
        async with connect(server.http) as connection:
            await connection.send(post(tenant.key, ONE))
            assert (await connection.answer()).status == 202
            connection.reset()
    await eventually(lambda: connections() <= before, "nothing remains", poll_seconds=0.2)
