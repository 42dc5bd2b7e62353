"""Connections: what is not HTTP, what is only half there, what comes at once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from http_api.parsing import MAX_PIECE_BYTES
from tests.support.raw_http import ONE, PING, ask, check_error, chunked, connect, head, post
from tests.support.running_service import Addresses
from tests.support.tenant import UNKNOWN_KEY, Tenant, event

pytestmark = pytest.mark.anyio


GET = b"GET /nothing HTTP/1.1\r\nHost: test\r\n"


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


async def test_bytes_behind_a_chunk_that_are_no_end_of_line_are_refused(
    server: Addresses, tenant: Tenant
) -> None:
    request = head(tenant.key, Transfer_Encoding="chunked") + chunked(ONE).replace(
        b"}\r\n0", b"}xx0"
    )
    check_error(await ask(server.http, request), 400, "invalid_body")
    assert await tenant.events() == []


async def test_a_chunk_size_that_is_none_is_refused(server: Addresses, tenant: Tenant) -> None:
    request = head(tenant.key, Transfer_Encoding="chunked") + b"zz\r\n"
    check_error(await ask(server.http, request), 400, "invalid_body")


async def test_pipelined_requests_are_answered_in_order(server: Addresses, tenant: Tenant) -> None:
    many = [post(tenant.key, json.dumps({"events": [event()] * n}).encode()) for n in range(1, 20)]
    async with connect(server.http) as connection:
        await connection.send(b"".join(many))
        counts = [(await connection.answer()).json["accepted"] for _ in many]
    assert counts == list(range(1, 20))


async def test_pipelined_heads_may_end_wherever_a_piece_does(
    server: Addresses, tenant: Tenant
) -> None:
    usual = len(head(tenant.key, "GET", PING, Padding=""))
    many = [
        head(tenant.key, "GET", PING, Padding="x" * (size - usual))
        for size in range(MAX_PIECE_BYTES - 6, MAX_PIECE_BYTES + 7)
    ]
    async with connect(server.http) as connection:
        await connection.send(b"".join(many))
        assert [(await connection.answer()).status for _ in many] == [200] * len(many)


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
    unknown = post(UNKNOWN_KEY, ONE, Expect="100-continue")
    check_error(await ask(server.http, unknown[: -len(ONE)]), 401, "invalid_key")


@pytest.mark.parametrize("protocol", ["h2c", "websocket", "TLS/1.0"])
async def test_an_upgrade_is_ignored(server: Addresses, tenant: Tenant, protocol: str) -> None:
    upgrade = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": protocol}
    async with connect(server.http) as connection:
        for _ in range(2):
            await connection.send(post(tenant.key, ONE, HTTP2_Settings="AAMAAABk", **upgrade))
            assert (await connection.answer()).status == 202
    assert len(await tenant.events()) == 2


async def test_a_body_in_chunks_outlives_an_upgrade_that_is_ignored(
    server: Addresses, tenant: Tenant
) -> None:
    upgrade = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c"}
    first = head(tenant.key, Transfer_Encoding="chunked", HTTP2_Settings="AAMAAABk", **upgrade)
    async with connect(server.http) as connection:
        for _ in range(2):
            await connection.send(first)  # the body comes later
            await connection.send(chunked(ONE[:10], ONE[10:]))
            assert (await connection.answer()).status == 202
    assert len(await tenant.events()) == 2


@pytest.mark.parametrize("host", ["http://test", "HTTP://elsewhere.example:81", "https://[::1]"])
async def test_a_whole_url_is_the_path_in_it(server: Addresses, tenant: Tenant, host: str) -> None:
    request = post(tenant.key, ONE).replace(b"POST /", f"POST {host}/".encode())
    assert (await ask(server.http, request)).status == 202
    expected = await ask(server.http, head(None, path="/", method="GET"))
    for nothing in ("", "/", "?a=b"):
        request = head(None, path=host + nothing, method="GET")
        answer = await ask(server.http, request)
        assert (answer.status, answer.headers["location"]) == (307, expected.headers["location"])


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
