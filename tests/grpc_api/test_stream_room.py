"""Acks that are large, or that nobody reads: the room of a batch is held until its ack is away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import grpc as grpc_library
import pytest

from core.access import admission
from grpc_api import call
from grpc_api import stream as event_stream
from grpc_api.pb import ingest_pb2 as pb
from tests.grpc_api.conftest import Connect, OpenStream
from tests.support.running_service import RunningService
from tests.support.stream_client import PATIENCE_SECONDS, STREAM_EVENTS, Stream, batch
from tests.support.tenant import Tenant, event, make_tenant
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

WIDE = batch([event(category="?")] * 500)  # tens of KiB of ack
MIN_MESSAGE_CHARACTERS = 8_192
UNREAD_SECONDS = 3.0
LOOK_SECONDS = 0.5  # in which a batch that need not wait is acked


async def test_messages_of_an_ack_are_about_as_long_as_its_batch(
    stream: OpenStream, tenant: Tenant
) -> None:
    one = stream(tenant.key)
    await one.write(WIDE)
    messages = [rejection.message for rejection in (await one.ack()).rejected]
    bound = MIN_MESSAGE_CHARACTERS + WIDE.batch.ByteSize()
    assert len(messages) == 500
    assert messages[499] == "events[499]: not shown"
    shown = [message for message in messages if not message.endswith("not shown")]
    assert bound - 200 < sum(map(len, shown)) < bound + 200


class Unread:
    """A stream that offers batch after batch and reads no ack before :meth:`end`.

    grpc.aio's client tells INTERNAL instead of the status if the server ends a stream in the middle
    of a write.
    """

    def __init__(self, target: str, key: str) -> None:
        self._channel = grpc_library.insecure_channel(target)
        self._taken = self._seen = 0
        method: Any = self._channel.stream_stream(
            STREAM_EVENTS, request_serializer=pb.StreamEventsRequest.SerializeToString
        )
        self._call = method(self._messages(), metadata=(("authorization", f"Bearer {key}"),))

    def _messages(self) -> Iterator[pb.StreamEventsRequest]:
        while True:
            self._taken += 1
            yield WIDE

    def _stands(self) -> bool:
        before, self._seen = self._seen, self._taken
        return 1 < before == self._seen

    async def stands_still(self) -> None:
        """Wait until the server takes nothing more."""
        await eventually(self._stands, "the stream stands still", poll_seconds=LOOK_SECONDS)

    def end(self) -> tuple[grpc_library.StatusCode, str]:
        """Read to the end; the status and its message."""
        with contextlib.suppress(grpc_library.RpcError):
            for _ in self._call:
                pass
        return self._call.code(), self._call.details()

    def close(self) -> None:
        """Leave nothing behind."""
        self._channel.close()


async def test_acks_that_nobody_reads_hold_their_room_and_end_the_stream(
    database_url: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "MAX_UNREAD_SECONDS", UNREAD_SECONDS)
    monkeypatch.setattr(admission, "MAX_STREAMED_EVENTS", 2_000)  # two wide batches of one flow
    tenant, other = [await make_tenant(database_url) for _ in range(2)]
    with RunningService(database_url) as service, contextlib.ExitStack() as stack:
        address, channel = service.addresses.grpc, connect(service.addresses).channel
        unread = stack.enter_context(contextlib.closing(Unread(address, tenant.key)))
        await unread.stands_still()
        sibling, neighbour = Stream(channel, tenant.key), Stream(channel, other.key)
        for one in (sibling, neighbour):
            await one.send(*[event()] * 400)
        assert (await neighbour.ack()).accepted == 400
        acking = asyncio.create_task(sibling.ack())
        await asyncio.wait({acking}, timeout=LOOK_SECONDS)
        assert not acking.done()
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert (await acking).accepted == 400
        status, message = await asyncio.to_thread(unread.end)
    assert status is grpc_library.StatusCode.UNAVAILABLE
    assert "not read" in message


async def test_the_place_of_a_stream_whose_client_never_reads_is_free_again(
    database_url: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "MAX_UNREAD_SECONDS", UNREAD_SECONDS)
    monkeypatch.setattr(call, "MAX_STATUS_SECONDS", 0.5)
    monkeypatch.setattr(admission, "MAX_OPEN_STREAMS", 2)  # one of a flow that is alone
    tenant = await make_tenant(database_url)
    with RunningService(database_url) as service, contextlib.ExitStack() as stack:
        unread = stack.enter_context(contextlib.closing(Unread(service.addresses.grpc, tenant.key)))
        await unread.stands_still()
        channel = connect(service.addresses).channel

        async def has_a_place() -> bool:
            other = Stream(channel, tenant.key)
            try:
                await other.send(event())
                return (await other.ack()).accepted == 1
            except grpc_library.aio.AioRpcError:
                return False

        await eventually(has_a_place, "another stream of the organization is let in")
