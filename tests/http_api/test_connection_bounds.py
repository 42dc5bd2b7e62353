"""A service full of connections, and connections whose clients do not read or end too soon."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
from typing import Any

import pytest

import core.descriptors
import http_api.connections
import http_api.parsing
import http_api.protocol
from core.ingest import Ingestor
from http_api.cycle import Cycle
from http_api.parsing import MAX_HEADERS
from tests.support.raw_http import (
    EVENTS,
    ONE,
    PING,
    RawConnection,
    ask,
    check_error,
    connect,
    head,
    post,
)
from tests.support.running_service import Addresses, RunningService
from tests.support.tenant import Tenant, make_tenant
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio


PLACES = 4


@pytest.fixture
def few_places(database_url: str, monkeypatch: pytest.MonkeyPatch) -> RunningService:
    monkeypatch.setattr(core.descriptors, "MAX_CONNECTIONS", PLACES)
    monkeypatch.setattr(core.descriptors, "MIN_CONNECTIONS", PLACES)
    return RunningService(database_url)


class TestFull:
    async def test_a_newcomer_takes_the_place_of_an_idle_connection(
        self, few_places: RunningService, database_url: str
    ) -> None:
        tenant = await make_tenant(database_url)
        with few_places as running:
            url = running.addresses.http
            async with connect(url) as begun, connect(url) as known, connect(url) as idle:
                await begun.send(post(tenant.key, ONE)[:-5])
                await known.send(head(tenant.key, "GET", PING))
                assert (await known.answer()).status == 200
                for _ in range(3 * PLACES):
                    assert (await ask(url, head(tenant.key, "GET", PING))).status == 200
                async with connect(url), connect(url):
                    assert await idle.rest() == b""  # it never authenticated
                await begun.send(ONE[-5:])
                assert (await begun.answer()).status == 202
                await known.send(head(tenant.key, "GET", PING))
                assert (await known.answer()).status == 200

    async def test_a_stranger_that_waits_for_a_page_gives_way_and_its_turn_is_left_to_others(
        self, few_places: RunningService, database_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tenant = await make_tenant(database_url)
        begun = ended = 0

        async def never(*_: object) -> None:
            nonlocal begun, ended
            begun += 1
            try:
                await asyncio.Event().wait()
            finally:
                ended += 1

        monkeypatch.setattr(Ingestor, "begin_unkeyed", never)
        monkeypatch.setattr(http_api.connections, "NEWCOMER_SECONDS", 0.0)
        with few_places as running:
            url = running.addresses.http
            async with connect(url) as known, contextlib.AsyncExitStack() as stack:
                await known.send(head(tenant.key, "GET", PING))
                assert (await known.answer()).status == 200
                strangers = []
                preflight = {"Origin": "https://a", "Access_Control_Request_Method": "POST"}
                for request in (
                    head(None, "GET", "/developers"),
                    head(None, "GET", "/healthz"),
                    head(None, "OPTIONS", EVENTS, **preflight),
                ):
                    strangers.append(await stack.enter_async_context(connect(url)))
                    await strangers[-1].send(request)
                await eventually(lambda: begun == 3, "all wait for a turn")
                for stranger in strangers:
                    newcomer = await stack.enter_async_context(connect(url))
                    await newcomer.send(head(tenant.key, "GET", PING))
                    assert (await newcomer.answer()).status == 200
                    assert await stranger.rest() == b""
                await eventually(lambda: ended == 3, "nobody waits for a turn")
                await known.send(head(tenant.key, "GET", PING))
                assert (await known.answer()).status == 200

    async def test_a_newcomer_is_refused_when_all_are_in_a_request(
        self, few_places: RunningService, database_url: str
    ) -> None:
        tenant = await make_tenant(database_url)
        with few_places as running:
            url = running.addresses.http
            busy = [connect(url) for _ in range(PLACES)]
            connections = [await one.__aenter__() for one in busy]
            for connection in connections:
                await connection.send(
                    head(tenant.key, Content_Length=len(ONE), Expect="100-continue")
                )
                assert await connection.line() == b"HTTP/1.1 100 Continue\r\n"
                await connection.line()
            async with connect(url) as newcomer:
                answer = await newcomer.answer()
                check_error(answer, 500, "internal_error")
                assert answer.headers["retry-after"] == "1"
            for connection in connections:
                await connection.send(ONE)
                assert (await connection.answer()).status == 202
            assert (await ask(url, head(tenant.key, "GET", PING))).status == 200
            for one in busy:
                await one.__aexit__(None, None, None)

    async def test_one_address_has_as_many_as_the_operator_allows(self, database_url: str) -> None:
        with RunningService(database_url, max_connections_per_address=2) as running:
            url = running.addresses.http
            async with connect(url) as first, connect(url) as second:
                for connection in (first, second):
                    await connection.send(head(None, "GET", "/healthz"))
                    assert (await connection.answer()).status == 200
                async with connect(url) as third:
                    check_error(await third.answer(), 500, "internal_error")


class TestUnread:
    async def test_an_answer_that_nobody_reads_ends_the_connection_quietly(
        self,
        database_url: str,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setattr(http_api.protocol, "MAX_UNREAD_SECONDS", 1.0)
        begun = 0

        class Counted(Cycle):
            async def run_asgi(self, app: Any) -> None:
                nonlocal begun
                begun += 1
                await super().run_asgi(app)

        monkeypatch.setattr(http_api.parsing, "Cycle", Counted)
        with RunningService(database_url) as running:
            host, port = running.addresses.http.removeprefix("http://").split(":")
            with socket.socket() as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
                client.connect((host, int(port)))
                request, count = head(None, "GET", "/developers/reference"), 2_000
                client.setblocking(False)
                client.send(request * count)
                poll = select.poll()
                poll.register(client, 0)  # tells of the end alone
                await eventually(lambda: bool(poll.poll(0)), "the connection is reset")
            assert 1 <= begun < count // 2
            assert (await ask(running.addresses.http, head(None, "GET", "/healthz"))).status == 200
        assert [one for one in caplog.records if one.levelname in ("ERROR", "WARNING")] == []

    async def test_a_client_that_reads_slowly_gets_every_answer(
        self, database_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(http_api.protocol, "MAX_UNREAD_SECONDS", 1.0)
        with RunningService(database_url) as running:
            async with connect(running.addresses.http) as connection:
                count = 200
                request = head(None, "GET", "/developers/reference")
                sending = asyncio.create_task(connection.send(request * count))
                for number in range(count):
                    if number < 30:
                        await asyncio.sleep(0.05)  # in all longer than the bound
                    assert (await connection.answer()).status == 200
                await sending


class TestHalfClosed:
    async def test_whoever_ends_its_side_gets_the_answers_to_what_came_whole(
        self, server: Addresses, tenant: Tenant
    ) -> None:
        for requests in (1, 20):
            async with connect(server.http) as connection:
                partial = post(tenant.key, ONE)[:-3]
                connection.writer.write(post(tenant.key, ONE) * requests + partial)
                connection.writer.write_eof()
                for _ in range(requests):
                    assert (await connection.answer()).status == 202
                assert await connection.rest() == b""
        assert len(await tenant.events()) == 21

    async def test_an_idle_connection_ends_with_its_client(self, server: Addresses) -> None:
        async with connect(server.http) as connection:
            await connection.send(head(None, "GET", "/healthz"))
            await connection.answer()
            connection.writer.write_eof()
            assert await connection.rest() == b""


class TestHead:
    @pytest.mark.parametrize("hosts", [0, 2])
    async def test_one_host_is_told(self, server: Addresses, tenant: Tenant, hosts: int) -> None:
        request = head(tenant.key, "GET", PING)
        assert b"Host: test\r\n" in request
        wrong = request.replace(b"Host: test\r\n", b"Host: test\r\n" * hosts)
        async with connect(server.http) as connection:
            await connection.send(request + wrong)
            assert (await connection.answer()).status == 200
            assert await connection.rest() == b"" or hosts is not None
        answer = await ask(server.http, wrong)
        assert check_error(answer, 400, "invalid_body") == "Host: must be sent once"

    async def test_http_1_0_needs_no_host(self, server: Addresses) -> None:
        assert (await ask(server.http, b"GET /healthz HTTP/1.0\r\n\r\n")).status == 200

    async def test_so_many_headers_and_no_more(self, server: Addresses) -> None:
        for count, status in ((MAX_HEADERS - 2, 200), (MAX_HEADERS, 400)):
            async with connect(server.http) as connection:
                lines = b"".join(b"X-%d:\r\n" % number for number in range(count))
                request = head(None, "GET", "/healthz")
                await connection.send(request[:-2] + lines + b"\r\n")
                answer = await connection.answer()
                assert answer.status == status
                if status == 400:
                    assert "headers" in check_error(answer, 400, "invalid_body")


async def test_no_more_is_parsed_ahead_than_a_kilobyte_of_requests(
    server: Addresses, monkeypatch: pytest.MonkeyPatch
) -> None:
    longest = 0

    class Watched(Cycle):
        async def run_asgi(self, app: Any) -> None:
            nonlocal longest
            connection = self.on_response.__self__  # type: ignore[attr-defined]
            longest = max(longest, len(connection.pipeline))
            await super().run_asgi(app)

    monkeypatch.setattr(http_api.parsing, "Cycle", Watched)
    shortest = b"GET /0 HTTP/1.1\r\nHost:a\r\n\r\n"
    count = 5_000
    async with connect(server.http) as connection:
        sending = asyncio.create_task(connection.send(shortest * count))
        await answered(connection, count)
        await sending
    assert 1 <= longest < 50


async def answered(connection: RawConnection, count: int) -> None:
    for _ in range(count):
        assert (await connection.answer()).status == 404
