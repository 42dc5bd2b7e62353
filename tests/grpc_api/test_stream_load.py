"""Streams under load: bounded in flight, bounded in memory, sharing the server.

``TEST_LOAD_SECONDS`` makes the two memory tests longer.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import grpc as grpc_library
import pytest

from core.access.memory_bounds import MAX_STREAMED_EVENTS, streamed_events
from tests.grpc_api.conftest import Connect
from tests.support.grpc_driver import GrpcDriver
from tests.support.http_driver import HttpDriver
from tests.support.running_service import Addresses, RunningService
from tests.support.service_process import ServiceProcess, service_on
from tests.support.service_tasks import in_flight
from tests.support.stream_client import PATIENCE_SECONDS, STREAM_EVENTS, End, Stream, batch
from tests.support.tenant import Tenant, event, make_tenant, until_forbidden

# They measure memory under load, and who has to wait for whom.
pytestmark = [pytest.mark.anyio, pytest.mark.timed]

LOAD_SECONDS = float(os.environ.get("TEST_LOAD_SECONDS", "5"))
MAX_IN_FLIGHT = 32


def share(message_bytes: int, events: int) -> int:
    """The number of such batches that an organization alone may have in flight: about a half."""
    each = streamed_events(message_bytes, events)
    return (MAX_STREAMED_EVENTS + each) // (2 * each)


OK = grpc_library.StatusCode.OK


class Offer(threading.Thread):
    """Offers one batch over and over on a connection of its own, reading acks or never."""

    def __init__(self, target: str, key: str, data: bytes, *, reading: bool) -> None:
        super().__init__(name="offering batches")
        self._target, self._key, self._data, self._reading = target, key, data, reading
        self._over = threading.Event()
        self.offered = self.acked = 0

    def run(self) -> None:
        with grpc_library.insecure_channel(self._target) as channel:
            method: Any = channel.stream_stream(STREAM_EVENTS)
            call = method(self._messages(), metadata=(("authorization", f"Bearer {self._key}"),))
            if self._reading:
                self.acked = sum(1 for _ in call) - 1
            self._over.wait()
            call.cancel()

    def _messages(self) -> Iterator[bytes]:
        while not self._over.is_set():
            self.offered += 1
            yield self._data

    async def stands_still(self) -> None:
        """Wait until nothing more is taken from it."""
        seen = -1
        async with asyncio.timeout(PATIENCE_SECONDS):
            while seen != self.offered:
                seen = self.offered
                await asyncio.sleep(1)

    async def has_offered(self, least: int) -> None:
        """Wait until that many batches are taken from it."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.offered < least:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    def stop(self) -> None:
        """End it, and wait."""
        self._over.set()
        self.join()


@pytest.fixture(scope="module")
def process(server: Addresses) -> Iterator[ServiceProcess]:
    """A process of its own on the shared database."""
    with service_on(server.database_url) as service:
        yield service


async def test_memory_is_flat_while_a_client_never_reads_its_acks(
    process: ServiceProcess, connect: Connect, tenant: Tenant
) -> None:
    before = process.memory_mib()
    wide = batch([event(category="?")] * 500).SerializeToString()  # tens of KiB of ack
    offer = Offer(process.addresses.grpc, tenant.key, wide, reading=False)
    offer.start()
    try:
        await offer.stands_still()
        neighbour = Stream(connect(process.addresses).channel, tenant.key)
        slowest = 0.0
        offered = [offer.offered]
        memory = []
        deadline = time.monotonic() + LOAD_SECONDS
        while time.monotonic() < deadline:
            sent = time.monotonic()
            await neighbour.send()
            await neighbour.ack()
            slowest = max(slowest, time.monotonic() - sent)
            memory.append(process.memory_mib())
            offered.append(offer.offered)
            await asyncio.sleep(0.1)
    finally:
        offer.stop()
    # The server has stopped reading, so the client cannot send.
    assert offered[-1] == offered[0] < 5_000
    assert max(memory) < before + 64
    assert memory[-1] < memory[len(memory) // 2] + 4
    assert slowest < 3, "the neighbour was held up"


async def test_memory_is_flat_while_a_client_sends_for_ever(
    process: ServiceProcess, tenant: Tenant
) -> None:
    data = batch([event(metadata={"text": "x" * 100})] * 500).SerializeToString()
    offer = Offer(process.addresses.grpc, tenant.key, data, reading=True)
    offer.start()
    try:
        await offer.has_offered(100)  # all that is made once is made by then
        memory = await asyncio.to_thread(process.memory_mib_over, LOAD_SECONDS)
    finally:
        offer.stop()
    assert offer.acked > 50
    assert max(memory[len(memory) // 2 :]) < max(memory[: len(memory) // 2]) + 16
    assert max(memory) < 300


async def _send(one: Stream, count: int, events: int, **members: Any) -> End:
    message = batch([event(**members)] * events)
    is_producers = one.opened is not None

    async def write() -> None:
        for sequence in range(1, count + 1):
            if is_producers:
                message.batch.sequence = sequence
            await one.call.write(message)
        await one.done_writing()

    writing = asyncio.create_task(write())
    end = await one.end(seconds=60)
    await writing
    return end


@pytest.mark.parametrize("producer_id", [None, "producer-1"])
async def test_a_stream_has_as_much_in_flight_as_it_was_told(
    replica_service: RunningService, connect: Connect, tenant: Tenant, producer_id: str | None
) -> None:
    one = Stream(connect(replica_service.addresses).channel, tenant.key)
    if producer_id is not None:
        await one.open(producer_id)
    async with await tenant.connect() as db, db.transaction():
        # Commits wait for this; reads go on.
        await db.execute("LOCK TABLE events IN SHARE MODE")
        sending = asyncio.create_task(_send(one, 100, 1))
        await in_flight(replica_service, MAX_IN_FLIGHT)
    end = await sending
    assert one.opened is not None
    assert one.opened.max_in_flight == MAX_IN_FLIGHT
    assert (end.status, len(end.acks)) == (OK, 100)


async def test_a_hundred_streams_are_slowed_down_and_none_is_broken(
    database_url: str, connect: Connect
) -> None:
    tenant = await make_tenant(database_url)
    with RunningService(database_url) as service:
        clients = [connect(service.addresses) for _ in range(2)]
        streams = [Stream(client.channel, tenant.key) for client in clients for _ in range(50)]
        async with await tenant.connect() as db, db.transaction():
            await db.execute("LOCK TABLE events IN SHARE MODE")
            sending = [asyncio.create_task(_send(one, 40, 2)) for one in streams]
            await in_flight(service, share(0, 2))
        ends = await asyncio.gather(*sending)
    assert Counter((end.status, len(end.acks)) for end in ends) == {(OK, 40): 100}
    counted = await tenant.rows("SELECT count(*) AS events FROM events")
    assert counted == [{"events": 100 * 40 * 2}]


async def test_streams_of_large_batches_are_slowed_down_and_leave_room_for_their_neighbours(
    database_url: str, connect: Connect
) -> None:
    tenant = await make_tenant(database_url)
    large: dict[str, Any] = {"metadata": {"text": "x" * 16_000}}
    with RunningService(database_url) as service:
        streams = [Stream(connect(service.addresses).channel, tenant.key) for _ in range(4)]
        http = HttpDriver(service.addresses.http)
        async with await tenant.connect() as db, db.transaction():
            await db.execute("LOCK TABLE events IN SHARE MODE")
            sending = [asyncio.create_task(_send(one, 24, 60, **large)) for one in streams]
            await in_flight(service, share(60 * 16_100, 60))
            posts = [
                asyncio.create_task(http.ingest(tenant.key, [event(**large)] * 60))
                for _ in range(20)
            ]
            await asyncio.sleep(0.5)
        replies = await asyncio.gather(*posts)
        ends = await asyncio.gather(*sending)
        await http.close()
    assert [reply.code for reply in replies] == [None] * 20
    assert Counter((end.status, end.reason, len(end.acks)) for end in ends) == {(OK, "", 24): 4}
    assert len(await tenant.events()) == (4 * 24 + 20) * 60


async def test_streams_of_an_organization_that_is_locked_do_not_stop_those_of_others(
    database_url: str, connect: Connect
) -> None:
    locked, other = [await make_tenant(database_url) for _ in range(2)]
    with RunningService(database_url) as service:
        for tenant in (locked, other):
            end = await _send(Stream(connect(service.addresses).channel, tenant.key), 1, 1)
            assert end.status is OK
        streams = [Stream(connect(service.addresses).channel, locked.key) for _ in range(2)]
        async with await locked.connect() as db, db.transaction():
            await db.execute(
                "UPDATE quota_usage SET used = used WHERE organization_id = %s",
                (locked.organization.id,),
            )
            sending = [asyncio.create_task(_send(one, MAX_IN_FLIGHT, 500)) for one in streams]
            await in_flight(service, share(0, 500))
            end = await _send(Stream(connect(service.addresses).channel, other.key), 1, 1)
            assert (end.status, len(end.acks)) == (OK, 1)
            assert not any(task.done() for task in sending)
        ends = await asyncio.gather(*sending)
    assert [(end.status, len(end.acks)) for end in ends] == [(OK, MAX_IN_FLIGHT)] * 2


@pytest.mark.timed  # a batch waits for its commit for some seconds, and meanwhile all is sent
async def test_streams_that_wait_for_room_meet_the_rights_of_their_turn(
    database_url: str, connect: Connect
) -> None:
    tenant = await make_tenant(database_url)
    with RunningService(database_url) as service:
        client: GrpcDriver = connect(service.addresses)
        streams = [Stream(client.channel, tenant.key) for _ in range(16)]
        async with await tenant.connect() as db, db.transaction():
            await db.execute("LOCK TABLE events IN SHARE MODE")
            sending = [asyncio.create_task(_send(one, 32, 1)) for one in streams]
            await in_flight(service, share(0, 1))
            await tenant.deny("ticket.resolved")
            await until_forbidden(client, tenant.key, "ticket.resolved")
        ends = await asyncio.gather(*sending)
    accepted = sum(ack.accepted for end in ends for ack in end.acks)
    assert {len(end.acks) for end in ends} == {32}
    # Those in flight were admitted before the change; the others after it.
    assert accepted == share(0, 1) == len(await tenant.events())
