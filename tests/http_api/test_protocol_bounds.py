"""Bounds of a connection: the size and time of a head, of a body and of what is pipelined."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time

import pytest

import http_api.body
import http_api.protocol
import http_api.server
from http_api.body import MIN_PROGRESS_BYTES
from tests.support.raw_http import (
    ONE,
    RawConnection,
    ask,
    check_error,
    chunked,
    connect,
    head,
    post,
)
from tests.support.running_service import Addresses, RunningService
from tests.support.tenant import Tenant, event, make_tenant

pytestmark = pytest.mark.anyio


GET = b"GET /nothing HTTP/1.1\r\nHost: test\r\n"


async def test_large_pipelined_requests_are_not_taken_for_long_headers(
    server: Addresses, tenant: Tenant
) -> None:
    body = json.dumps({"events": [event(metadata={"text": "x" * 16_000})] * 20}).encode()
    second = post(tenant.key, ONE)
    async with connect(server.http) as connection:
        await connection.send(post(tenant.key, body) + second[:40])
        assert (await connection.answer()).json["accepted"] == 20
        await connection.send(second[40:])
        assert (await connection.answer()).json["accepted"] == 1


@pytest.mark.parametrize("trailer", [b"a: b\r\n", b"x"])
async def test_what_follows_a_body_is_bounded_and_not_heeded(
    server: Addresses, tenant: Tenant, trailer: bytes
) -> None:
    body = chunked(ONE)[:-2]
    request = head(tenant.key, Transfer_Encoding="chunked")
    async with connect(server.http) as connection:
        fields = b"Content-Type: text/plain\r\nAuthorization: none\r\n\r\n"
        for part in (request, body, fields):
            await connection.send(part)
            await asyncio.sleep(0.02)
        assert (await connection.answer()).status == 202
        await connection.send(request + body)
        for _ in range(100):
            await connection.send(trailer * (10_000 // len(trailer)))
            await asyncio.sleep(0.001)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            check_error(await connection.answer(), 400, "invalid_body")
        assert await connection.rest() == b""
    assert len(await tenant.events()) == 1


async def test_what_comes_together_with_a_head_does_not_count_as_its_own(
    server: Addresses, tenant: Tenant
) -> None:
    large = post(tenant.key, b" " * 200_000 + ONE)
    async with connect(server.http) as connection:
        await connection.send(large[:-100_000])
        await asyncio.sleep(0.1)
        await connection.send(large[-100_000:] + head(tenant.key, Content_Length=len(ONE)))
        await asyncio.sleep(0.1)
        await connection.send(ONE)
        for _ in range(2):
            assert (await connection.answer()).status == 202


async def test_endless_headers_are_refused(server: Addresses) -> None:
    async with connect(server.http) as connection:
        await connection.send(GET + b"A: " + b"x" * 1_000_000)
        check_error(await connection.answer(), 400, "invalid_body")


class TestSlowClients:
    """With the bounds cut short; they are read when a connection needs them."""

    @pytest.fixture
    def hasty(self, database_url: str, monkeypatch: pytest.MonkeyPatch) -> object:
        monkeypatch.setattr(http_api.protocol, "MAX_HEAD_SECONDS", 2.5)
        monkeypatch.setattr(http_api.body, "PROGRESS_SECONDS", 1.0)
        monkeypatch.setattr(http_api.body, "MAX_BODY_SECONDS", 3.0)
        monkeypatch.setattr(http_api.server, "KEEP_ALIVE_SECONDS", 2)
        return RunningService(database_url)

    async def test_a_slow_body_is_answered_and_the_connection_ends(
        self, hasty: RunningService, database_url: str
    ) -> None:
        tenant = await make_tenant(database_url)
        with hasty as service:
            async with connect(service.addresses.http) as connection:
                await connection.send(head(tenant.key, Content_Length=100_000))
                trickle = asyncio.create_task(_trickle(connection.send))
                begin = time.monotonic()
                answer = await connection.answer()
                assert "too slowly" in check_error(answer, 500, "internal_error")
                assert answer.headers["retry-after"] == "1"
                await connection.rest()
                assert time.monotonic() - begin < 5
                trickle.cancel()

    async def test_a_body_that_makes_progress_has_longer(
        self, hasty: RunningService, database_url: str
    ) -> None:
        tenant = await make_tenant(database_url)
        with hasty as service:
            async with connect(service.addresses.http) as connection:
                for seconds, status in ((2.0, 202), (4.5, 500)):
                    pieces = round(seconds / 0.25)
                    length = len(ONE) + pieces * MIN_PROGRESS_BYTES
                    await connection.send(head(tenant.key, Content_Length=length))
                    sending = asyncio.create_task(_in_pieces(connection, pieces))
                    assert (await connection.answer()).status == status
                    sending.cancel()

    async def test_a_slow_head_ends_the_connection(self, hasty: RunningService) -> None:
        with hasty as service:
            async with connect(service.addresses.http) as connection:
                await connection.send(b"GET / HT")
                trickle = asyncio.create_task(_trickle(connection.send))
                begin = time.monotonic()
                await connection.rest()
                assert time.monotonic() - begin < 5
                trickle.cancel()

    @pytest.mark.parametrize("dribble", [b"\r\n", b"x"])
    async def test_an_answered_connection_is_not_held_by_dribbling(
        self, hasty: RunningService, dribble: bytes
    ) -> None:
        with hasty as service:
            async with connect(service.addresses.http) as connection:
                waiting = b"" if dribble == b"\r\n" else b"Content-Length: 9999\r\n"
                await connection.send(GET + waiting + b"\r\n")
                check_error(await connection.answer(), 404, "not_found")
                trickle = asyncio.create_task(_trickle(connection.send, dribble))
                begin = time.monotonic()
                await connection.rest()
                assert time.monotonic() - begin < 5
                trickle.cancel()

    async def test_a_body_may_come_in_pieces_and_late(
        self, hasty: RunningService, database_url: str
    ) -> None:
        tenant = await make_tenant(database_url)
        with hasty as service:
            async with connect(service.addresses.http) as connection:
                for _ in range(2):
                    await connection.send(head(tenant.key, Content_Length=len(ONE)))
                    for piece in (ONE[:1], ONE[1:9], ONE[9:]):
                        await asyncio.sleep(0.2)
                        await connection.send(piece)
                    assert (await connection.answer()).status == 202

    async def test_an_idle_connection_is_kept_for_a_while_after_each_request(
        self, hasty: RunningService, database_url: str
    ) -> None:
        tenant = await make_tenant(database_url)
        with hasty as service:
            async with connect(service.addresses.http) as connection:
                for _ in range(3):
                    await asyncio.sleep(0.7)
                    await connection.send(post(tenant.key, ONE))
                    assert (await connection.answer()).status == 202
                begin = time.monotonic()
                assert await connection.rest() == b""
                assert 1.5 < time.monotonic() - begin < 5

    @pytest.mark.parametrize("body", [b"", b"late"])
    async def test_a_slow_head_ends_a_connection_that_was_idle(
        self, hasty: RunningService, monkeypatch: pytest.MonkeyPatch, body: bytes
    ) -> None:
        monkeypatch.setattr(http_api.server, "KEEP_ALIVE_SECONDS", 75)
        with hasty as service:
            async with connect(service.addresses.http) as connection:
                await connection.send(GET + b"Content-Length: %d\r\n\r\n" % len(body))
                check_error(await connection.answer(), 404, "not_found")
                await connection.send(body + b"GET / HT")
                begin = time.monotonic()
                assert await connection.rest() == b""
                assert time.monotonic() - begin < 5

    async def test_many_silent_connections_do_not_hinder_others(
        self, hasty: RunningService, database_url: str
    ) -> None:
        tenant = await make_tenant(database_url)
        with hasty as service:
            url = service.addresses.http
            async with asyncio.TaskGroup() as group:
                silent = [group.create_task(_until_closed(url)) for _ in range(200)]
                assert (await ask(url, post(tenant.key, ONE))).status == 202
            assert all(task.done() for task in silent)


async def _in_pieces(connection: RawConnection, pieces: int) -> None:
    for _ in range(pieces):
        await asyncio.sleep(0.25)
        await connection.send(b" " * MIN_PROGRESS_BYTES)
    await connection.send(ONE)


async def _trickle(send: object, data: bytes = b"x") -> None:
    assert callable(send)
    while True:
        await asyncio.sleep(0.1)
        await send(data)


async def _until_closed(url: str) -> None:
    async with connect(url) as connection:
        await connection.rest()
