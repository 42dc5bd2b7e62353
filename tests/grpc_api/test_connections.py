"""A port that fills up: who never had a key gives way, and who has one does not."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import httpx
import pytest

import core.descriptors
from grpc_api import connections
from grpc_api.connections import Connections
from tests.pressure.http2 import PREFACE
from tests.support.grpc_driver import GrpcDriver
from tests.support.running_service import Addresses, RunningService
from tests.support.stream_client import Stream
from tests.support.tenant import make_tenant
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

PLACES = 32
CROWDED = PLACES // 4


@pytest.fixture
def few_places(database_url: str, monkeypatch: pytest.MonkeyPatch) -> RunningService:
    monkeypatch.setattr(core.descriptors, "MAX_CONNECTIONS", PLACES)
    # The library waits for strangers at the end.
    return RunningService(database_url, drain_seconds=1.0)


@contextlib.asynccontextmanager
async def client(addresses: Addresses) -> AsyncIterator[GrpcDriver]:
    """A client with a connection of its own."""
    one = GrpcDriver(addresses.grpc, own_connection=True)
    try:
        yield one
    finally:
        await one.close()


Enter = Callable[[int], Awaitable[list["Stranger"]]]


class Stranger(asyncio.Protocol):
    """A connection that says so much, of a client's first words, and no more."""

    def __init__(self, words: bytes) -> None:
        self._words = words
        self.is_over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say it."""
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(self._words)

    def connection_lost(self, error: Exception | None) -> None:
        """Note it."""
        self.is_over = True


@contextlib.asynccontextmanager
async def strangers(
    addresses: Addresses, words: bytes = b"P"
) -> AsyncIterator[Callable[[int], Awaitable[list[Stranger]]]]:
    """A function that makes so many connections; they end with the block."""
    host, port = addresses.grpc.rsplit(":", 1)
    loop = asyncio.get_running_loop()
    made: list[tuple[asyncio.BaseTransport, Stranger]] = []

    async def enter(count: int) -> list[Stranger]:
        make = lambda: Stranger(words)  # noqa: E731
        pairs = [await loop.create_connection(make, host, int(port)) for _ in range(count)]
        made.extend(pairs)
        return [stranger for _, stranger in pairs]

    try:
        yield enter
    finally:
        for transport, _ in made:
            transport.close()


async def seen(addresses: Addresses) -> Sequence[object]:
    """The connections of the gRPC port that a look sees."""
    port = int(addresses.grpc.rsplit(":", 1)[1])
    return await Connections(PLACES)._look(port, os.listdir("/dev/fd"))


async def test_strangers_that_say_nothing_take_no_place(
    few_places: RunningService, database_url: str
) -> None:
    tenant = await make_tenant(database_url)
    with few_places as running:
        addresses = running.addresses
        async with strangers(addresses, b"") as enter:
            silent: list[Stranger] = []
            for _ in range(10):
                silent += await enter(4 * PLACES)
                async with client(addresses) as newcomer:
                    assert (await newcomer.ping(tenant.key)).code is None
            assert not await seen(addresses)
            assert not any(one.is_over for one in silent)


async def test_strangers_of_few_words_give_way_and_neither_a_known_key_nor_its_stream(
    few_places: RunningService, database_url: str
) -> None:
    tenant = await make_tenant(database_url)
    with few_places as running:
        addresses = running.addresses
        async with (
            client(addresses) as known,
            client(addresses) as streaming,
            strangers(addresses) as enter,
        ):
            assert (await known.ping(tenant.key)).code is None
            stream = Stream(streaming.channel, tenant.key)
            await stream.send()
            assert (await stream.ack()).accepted == 1

            async def there_is_room() -> bool:
                # The library counts a connection until it has closed it, later than its client.
                return len(await seen(addresses)) <= CROWDED

            for _ in range(3):
                await enter(PLACES // 2)
                await eventually(there_is_room, "strangers give way")
                async with client(addresses) as newcomer:
                    assert (await newcomer.ping(tenant.key)).code is None
            assert (await known.ping(tenant.key)).code is None
            await stream.send()
            assert (await stream.ack()).accepted == 1
            await stream.close()


async def test_nobody_gives_way_while_there_is_room(
    few_places: RunningService, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    look = Connections._look

    async def counted(self: Connections, port: int, descriptors: list[str]) -> Any:
        nonlocal looks
        looks += 1
        return await look(self, port, descriptors)

    monkeypatch.setattr(Connections, "_look", counted)
    tenant = await make_tenant(database_url)
    with few_places as running:
        async with client(running.addresses) as known, strangers(running.addresses) as enter:
            those = await enter(CROWDED - 1)
            assert (await known.ping(tenant.key)).code is None
            before = looks
            await eventually(lambda: looks >= before + 3, "it looks again and again")
            assert not any(one.is_over for one in those)
            page = f"{running.addresses.http}/metrics"
            counted_all = f'wepeople_admission_used{{budget="grpc_connections"}} {float(CROWDED)}\n'
            await eventually(lambda: counted_all in httpx.get(page).text, "all are counted")


async def test_a_connection_is_a_refused_strangers_until_it_has_a_key_or_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "COUNT_SECONDS", 0.0)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Stranger(b""), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    those = Connections(PLACES)
    running = asyncio.create_task(those.run(port))
    clients = [
        await loop.create_connection(lambda: Stranger(b""), "127.0.0.1", port) for _ in "123"
    ]
    peers = [f"ipv4:127.0.0.1:{one.get_extra_info('sockname')[1]}" for one, _ in clients]
    here, gone, known = peers

    def refused() -> list[str]:
        return [peer for peer in peers if those.was_refused(partial(str, peer))]

    try:
        for peer in peers:
            those.note_refused(peer)
        those.note_known(known)
        those.note_refused(known)
        assert refused() == [here, gone]
        clients[1][0].close()
        await eventually(lambda: refused() == [here], "who is gone is forgotten")
    finally:
        running.cancel()
        for transport, _ in clients:
            transport.close()
        server.close()


async def test_who_has_begun_as_a_client_does_stays_before_others(
    few_places: RunningService, database_url: str
) -> None:
    with few_places as running:
        async with (
            strangers(running.addresses, PREFACE) as enter_clients,
            strangers(running.addresses) as enter,
        ):
            clients = await enter_clients(PLACES // 8)  # so many may stay in any case
            others = await enter(CROWDED)
            await eventually(lambda: any(one.is_over for one in others), "strangers give way")
            assert not any(one.is_over for one in clients)
