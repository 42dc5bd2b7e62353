"""Connections: what is not HTTP, what is only half there, what comes at once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import Any

import pytest

import http_api.protocol
import http_api.server
from tests.support.raw_http import PING, ask, check_error, chunked, connect, head, post
from tests.support.running_service import Addresses, RunningService
from tests.support.tenant import Tenant, event, make_tenant

pytestmark = pytest.mark.anyio

ONE = json.dumps({"events": [event()]}).encode()
GET = b"GET / HTTP/1.1\r\nHost: test\r\n"


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a TLS client
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"HELO mail.example.com\r\n",
        b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
        b"GET / HTTP/1.1\r\nA\x00: b\r\n\r\n",
        b"GET /caf\xc3\xa9 HTTP/1.1\r\nHost: test\r\n\r\n",
        b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n",
        GET + b"Content-Length: many\r\n\r\n",
        GET + b"Content-Length: -1\r\n\r\n",
        GET + b"Content-Length: 99999999999999999999999\r\n\r\n",
        b"\xff" * 100,
    ],
)
async def test_what_is_not_a_request_gets_the_envelope_and_the_end(
    server: Addresses, garbage: bytes
) -> None:
    async with connect(server.http) as connection:
        await connection.send(garbage)
        answer = await connection.answer()
        check_error(answer, 400, "invalid_body")
        assert answer.headers["connection"] == "close"
        assert await connection.rest() == b""


@pytest.mark.parametrize(
    "headers",
    [
        {"Content_Length": 5, "Transfer_Encoding": "chunked"},
        {"Transfer_Encoding": "chunked", "content_length": 5},
        {"Content_Length": 5, "content_length": 6},
        {"Transfer_Encoding": "chunked, identity"},
        {"Transfer_Encoding": "identity"},
        {"Transfer_Encoding": "xchunked"},
        {"Transfer_Encoding": "\x0bchunked"},
        {"Content_Length": "0x5"},
        {"Content_Length": "5 5"},
        {"Content_Length": "+5"},
    ],
    ids=str,
)
async def test_shapes_of_request_smuggling_are_refused(
    server: Addresses, tenant: Tenant, headers: dict[str, Any]
) -> None:
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n"
    async with connect(server.http) as connection:
        await connection.send(head(tenant.key, **headers) + chunked(b"12345") + smuggled)
        check_error(await connection.answer(), 400, "invalid_body")
        assert b"not_found" not in await connection.rest()
    assert await tenant.events() == []


async def test_a_space_before_the_colon_is_refused(server: Addresses) -> None:
    answer = await ask(server.http, GET + b"Content-Length : 5\r\n\r\nGET /")
    check_error(answer, 400, "invalid_body")


async def test_a_chunk_size_that_is_none_is_refused(server: Addresses, tenant: Tenant) -> None:
    request = head(tenant.key, Transfer_Encoding="chunked") + b"zz\r\n"
    check_error(await ask(server.http, request), 400, "invalid_body")


async def test_pipelined_requests_are_answered_in_order(server: Addresses, tenant: Tenant) -> None:
    many = [post(tenant.key, json.dumps({"events": [event()] * n}).encode()) for n in range(1, 20)]
    async with connect(server.http) as connection:
        await connection.send(b"".join(many))
        counts = [(await connection.answer()).json["accepted"] for _ in many]
    assert counts == list(range(1, 20))


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


async def test_requests_are_not_read_before_those_that_came_first(
    server: Addresses, monkeypatch: pytest.MonkeyPatch
) -> None:
    longest = 0

    class Watched(http_api.protocol._Cycle):
        async def run_asgi(self, app: Any) -> None:
            nonlocal longest
            connection = self.on_response.__self__  # type: ignore[attr-defined]
            longest = max(longest, len(connection.pipeline))
            await super().run_asgi(app)

    monkeypatch.setattr(http_api.protocol, "_Cycle", Watched)
    count, request = 20_000, GET + b"Filling: " + b"x" * 1_000 + b"\r\n\r\n"
    async with connect(server.http) as connection:
        sending = asyncio.create_task(connection.send(request * count))
        for _ in range(count // 20):
            assert (await connection.answer()).status == 404
        sending.cancel()
    assert 10 < longest < 1_000


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


async def test_garbage_after_a_request_does_not_answer_for_it(
    server: Addresses, tenant: Tenant
) -> None:
    async with connect(server.http) as connection:
        await connection.send(post(tenant.key, ONE) + b"garbage\r\n\r\n")
        answer = await connection.answer()
        assert (answer.status, answer.json["accepted"]) == (202, 1)
        assert (await connection.rest()).count(b"HTTP/1.1") <= 1
    assert len(await tenant.events()) == 1


async def test_a_connection_is_used_again_after_errors(server: Addresses, tenant: Tenant) -> None:
    async with connect(server.http) as connection:
        for request, status in [
            (post(tenant.key, b"not json"), 400),
            (post(None, ONE), 401),
            (post(tenant.key, b"x" * 1_048_577), 413),
            (post(tenant.key, ONE, path="/nowhere"), 404),
            (post(tenant.key, ONE, Content_Type="text/plain"), 400),
            (head(tenant.key, "DELETE", PING), 405),
            (post(tenant.key, ONE), 202),
        ]:
            await connection.send(request)
            assert (await connection.answer()).status == status


async def test_expect_100_continue_is_answered_before_the_body(
    server: Addresses, tenant: Tenant
) -> None:
    async with connect(server.http) as connection:
        request = post(tenant.key, ONE, Expect="100-continue")
        await connection.send(request[: -len(ONE)])
        assert await connection.line() == b"HTTP/1.1 100 Continue\r\n"
        await connection.line()
        await connection.send(ONE)
        assert (await connection.answer()).status == 202


async def test_expect_100_continue_is_not_invited_to_send_what_is_refused(
    server: Addresses, tenant: Tenant
) -> None:
    big = head(tenant.key, Content_Length=2_000_000, Expect="100-continue")
    check_error(await ask(server.http, big), 413, "batch_too_large")
    unknown = post("wp_live_" + "0" * 32, ONE, Expect="100-continue")
    check_error(await ask(server.http, unknown[: -len(ONE)]), 401, "invalid_key")


@pytest.mark.parametrize("protocol", ["h2c", "websocket", "TLS/1.0"])
async def test_an_upgrade_is_ignored(server: Addresses, tenant: Tenant, protocol: str) -> None:
    upgrade = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": protocol}
    async with connect(server.http) as connection:
        for _ in range(2):
            await connection.send(post(tenant.key, ONE, HTTP2_Settings="AAMAAABk", **upgrade))
            assert (await connection.answer()).status == 202
    assert len(await tenant.events()) == 2


async def test_http_1_0_is_answered_and_closed(server: Addresses, tenant: Tenant) -> None:
    async with connect(server.http) as connection:
        await connection.send(post(tenant.key, ONE).replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert (await connection.answer()).status == 202
        assert await connection.rest() == b""


@pytest.mark.parametrize("sent", [0, 10, len(ONE) - 1])
async def test_a_client_that_disconnects_mid_body_writes_nothing(
    server: Addresses, tenant: Tenant, sent: int
) -> None:
    async with connect(server.http) as connection:
        await connection.send(head(tenant.key, Content_Length=len(ONE)) + ONE[:sent])
    assert (await ask(server.http, post(tenant.key, ONE))).status == 202
    assert len(await tenant.events()) == 1


async def test_endless_headers_are_refused(server: Addresses) -> None:
    async with connect(server.http) as connection:
        await connection.send(GET + b"A: " + b"x" * 1_000_000)
        check_error(await connection.answer(), 400, "invalid_body")


class TestSlowClients:
    """With the bounds cut short; they are read when a connection needs them."""

    @pytest.fixture
    def hasty(self, database_url: str, monkeypatch: pytest.MonkeyPatch) -> object:
        monkeypatch.setattr(http_api.protocol, "MAX_HEAD_SECONDS", 1.0)
        monkeypatch.setattr(http_api.protocol, "MAX_BODY_SECONDS", 1.0)
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
                message = check_error(await connection.answer(), 400, "invalid_body")
                assert "did not arrive within" in message
                await connection.rest()
                assert time.monotonic() - begin < 5
                trickle.cancel()

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


async def _trickle(send: object, data: bytes = b"x") -> None:
    assert callable(send)
    while True:
        await asyncio.sleep(0.1)
        await send(data)


async def _until_closed(url: str) -> None:
    async with connect(url) as connection:
        await connection.rest()
