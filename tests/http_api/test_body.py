"""Bodies that are too large, compressed or made to be slow."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import socket
import time
import tracemalloc
import zlib

import pytest

from core.access import admission
from tests.support.raw_http import (
    EVENTS,
    ONE,
    SNAPSHOTS,
    ask,
    check_error,
    chunked,
    connect,
    head,
    post,
)
from tests.support.running_service import Addresses, RunningService
from tests.support.tenant import Tenant, event, make_tenant
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

LIMIT = 1_048_576


def padded(size: int) -> bytes:
    """A valid body of exactly this size."""
    return ONE + b" " * (size - len(ONE))


async def accepted(server: Addresses, request: bytes) -> bool:
    answer = await ask(server.http, request)
    return (answer.status, answer.json.get("accepted")) == (202, 1)


class TestSize:
    async def test_the_limit_itself_is_accepted(self, server: Addresses, tenant: Tenant) -> None:
        body = padded(LIMIT)
        assert await accepted(server, post(tenant.key, body))
        unannounced = head(tenant.key, Transfer_Encoding="chunked")
        assert await accepted(
            server, unannounced + chunked(body[:7], body[7:70_000], body[70_000:])
        )
        packed = post(tenant.key, gzip.compress(body), Content_Encoding="gzip")
        assert await accepted(server, packed)

    @pytest.mark.parametrize("path", [EVENTS, SNAPSHOTS])
    async def test_one_byte_more_is_not(self, server: Addresses, tenant: Tenant, path: str) -> None:
        body = padded(LIMIT + 1)
        for request in (
            post(tenant.key, body, path),
            head(tenant.key, path=path, Transfer_Encoding="chunked") + chunked(body),
            post(tenant.key, gzip.compress(body), path, Content_Encoding="gzip"),
        ):
            message = check_error(await ask(server.http, request), 413, "batch_too_large")
            assert str(LIMIT) in message
        assert await tenant.events() == []

    async def test_chunks_may_come_byte_by_byte(self, server: Addresses, tenant: Tenant) -> None:
        async with connect(server.http) as connection:
            connection.writer.get_extra_info("socket").setsockopt(
                socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
            )
            await connection.send(head(tenant.key, Transfer_Encoding="chunked"))
            for byte in chunked(ONE[:3], ONE[3:]):
                await connection.send(bytes([byte]))
                await asyncio.sleep(0.002)
            assert (await connection.answer()).status == 202

    async def test_a_declared_length_over_the_limit_is_answered_without_the_body(
        self, server: Addresses, tenant: Tenant
    ) -> None:
        answer = await ask(server.http, head(tenant.key, Content_Length=10_000_000_000))
        check_error(answer, 413, "batch_too_large")

    async def test_a_length_that_is_too_short_cuts_the_body(
        self, server: Addresses, tenant: Tenant
    ) -> None:
        answer = await ask(server.http, post(tenant.key, ONE, Content_Length=len(ONE) - 1))
        check_error(answer, 400, "invalid_body")

    async def test_an_endless_body_is_cut_off(self, server: Addresses, tenant: Tenant) -> None:
        begin = time.monotonic()
        request = head(tenant.key, Transfer_Encoding="chunked") + b"400000\r\n" + b"x" * 4_194_304
        check_error(await ask(server.http, request), 413, "batch_too_large")
        assert time.monotonic() - begin < 10


class TestCompression:
    @pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "GZIP", " gzip "])
    async def test_gzip_is_understood(
        self, server: Addresses, tenant: Tenant, encoding: str
    ) -> None:
        request = post(tenant.key, gzip.compress(ONE, mtime=0), Content_Encoding=encoding)
        assert await accepted(server, request)

    @pytest.mark.parametrize("encoding", ["identity", ""])
    async def test_no_encoding_is_understood(
        self, server: Addresses, tenant: Tenant, encoding: str
    ) -> None:
        assert await accepted(server, post(tenant.key, ONE, Content_Encoding=encoding))

    async def test_several_gzip_members_are_one_body(
        self, server: Addresses, tenant: Tenant
    ) -> None:
        body = gzip.compress(ONE[:10]) + gzip.compress(b"") + gzip.compress(ONE[10:])
        assert await accepted(server, post(tenant.key, body, Content_Encoding="gzip"))

    @pytest.mark.parametrize("members", [1, 100])
    async def test_a_bomb_is_refused_quickly_and_within_bounds(
        self, server: Addresses, tenant: Tenant, members: int
    ) -> None:
        bomb = gzip.compress(b"\0" * (10_000_000 // members)) * members
        tracemalloc.start()
        begin = time.monotonic()
        answer = await ask(server.http, post(tenant.key, bomb, Content_Encoding="gzip"))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        check_error(answer, 413, "batch_too_large")
        assert time.monotonic() - begin < 5
        assert peak < 8_000_000

    async def test_a_megabyte_of_empty_members_is_answered_quickly(
        self, server: Addresses, tenant: Tenant
    ) -> None:
        empty = gzip.compress(b"")
        begin = time.monotonic()
        body = empty * (LIMIT // len(empty))
        answer = await ask(server.http, post(tenant.key, body, Content_Encoding="gzip"))
        assert "500 members" in check_error(answer, 400, "invalid_body")
        assert time.monotonic() - begin < 5

    async def test_a_member_for_each_event_is_understood(
        self, server: Addresses, tenant: Tenant
    ) -> None:
        body = gzip.compress(ONE, mtime=0) + gzip.compress(b" ") * 499
        assert await accepted(server, post(tenant.key, body, Content_Encoding="gzip"))

    @pytest.mark.parametrize(
        "body",
        [
            gzip.compress(ONE, mtime=0)[:-1],
            gzip.compress(ONE, mtime=0)[:20],
            gzip.compress(ONE, mtime=0)[:-8] + b"\0" * 8,
            gzip.compress(ONE, mtime=0) + b"junk",
            gzip.compress(ONE, mtime=0) + gzip.compress(b"  ")[:5],
            ONE,
            zlib.compress(ONE),
            b"\x1f\x8b",
        ],
    )
    async def test_what_is_not_whole_gzip_is_refused(
        self, server: Addresses, tenant: Tenant, body: bytes
    ) -> None:
        answer = await ask(server.http, post(tenant.key, body, Content_Encoding="gzip"))
        assert "gzip" in check_error(answer, 400, "invalid_body")

    @pytest.mark.parametrize(
        "encoding",
        ["deflate", "br", "zstd", "compress", "gzip, gzip", "gzip, br", "*", "x" * 9_000],
    )
    async def test_other_encodings_are_refused(
        self, server: Addresses, tenant: Tenant, encoding: str
    ) -> None:
        answer = await ask(server.http, post(tenant.key, ONE, Content_Encoding=encoding))
        assert "Content-Encoding" in check_error(answer, 400, "invalid_body")

    async def test_an_empty_packed_body_is_refused(self, server: Addresses, tenant: Tenant) -> None:
        for body in (b"", gzip.compress(b"")):
            answer = await ask(server.http, post(tenant.key, body, Content_Encoding="gzip"))
            check_error(answer, 400, "invalid_body")


class TestMemory:
    @pytest.fixture
    def small(self, database_url: str, monkeypatch: pytest.MonkeyPatch) -> RunningService:
        monkeypatch.setattr(admission, "MAX_REQUEST_BYTES", 6 * LIMIT)
        return RunningService(database_url)

    async def test_bodies_that_arrive_are_held_within_the_share_of_their_organization(
        self, small: RunningService, database_url: str
    ) -> None:
        tenant, other = [await make_tenant(database_url) for _ in range(2)]
        with small as service:
            url = service.addresses.http
            async with contextlib.AsyncExitStack() as stack:
                arriving = [await stack.enter_async_context(connect(url)) for _ in range(8)]
                body = padded(LIMIT)
                for connection in arriving:
                    await connection.send(head(tenant.key, Content_Length=LIMIT) + body[:-1])
                answers = [asyncio.create_task(one.answer()) for one in arriving]

                async def some_are_refused() -> bool:
                    return sum(task.done() for task in answers) >= 5

                await eventually(some_are_refused, "most are refused", seconds=4)
                for task in answers:
                    if task.done():
                        check_error(task.result(), 500, "internal_error")
                        assert task.result().headers["retry-after"] == "1"
                assert (await ask(url, post(other.key, ONE))).status == 202
                left = [one for one, task in zip(arriving, answers, strict=True) if not task.done()]
                assert left
                for task in answers:
                    task.cancel()

            async def all_is_given_back() -> bool:
                whole = post(tenant.key, padded(LIMIT))
                answer = await ask(url, whole)
                return answer.status == 202

            await eventually(all_is_given_back, "the memory is given back", seconds=4)

    @pytest.mark.parametrize("encoded", [False, True])
    async def test_a_body_larger_than_the_share_is_refused(
        self, database_url: str, monkeypatch: pytest.MonkeyPatch, encoded: bool
    ) -> None:
        monkeypatch.setattr(admission, "MAX_REQUEST_BYTES", LIMIT // 2)
        tenant = await make_tenant(database_url)
        with RunningService(database_url) as service:
            body = padded(LIMIT)
            request = (
                post(tenant.key, gzip.compress(body), Content_Encoding="gzip")
                if encoded
                else post(tenant.key, body)
            )
            for _ in range(3):
                answer = await ask(service.addresses.http, request)
                check_error(answer, 500, "internal_error")
            assert (await ask(service.addresses.http, post(tenant.key, ONE))).status == 202


@pytest.mark.parametrize("value", ["[],", "[1],", '"",', "1e1,", '{"a":[]},'])
async def test_a_body_made_to_be_slow_does_not_keep_others_waiting(
    server: Addresses, tenant: Tenant, value: str
) -> None:
    before, after = json.dumps(event(metadata={"a": ["..."]})).split('"..."')
    count = (LIMIT - len(before) - len(after) - 30) // len(value)
    body = f'{{"events": [{before}{value * count}1{after}]}}'.encode()
    waits = []
    for _ in range(3):  # a neighbour's work must not fail the test
        slow = asyncio.create_task(ask(server.http, post(tenant.key, body)))
        waited = 0.0
        while not slow.done():
            begin = time.monotonic()
            await ask(server.http, head(None, "GET", "/healthz"))
            waited = max(waited, time.monotonic() - begin)
        assert (await slow).code == "invalid_body"  # of more than 16 KB
        waits.append(waited)
        if waited < 0.5:
            break
    assert min(waits) < 0.5
