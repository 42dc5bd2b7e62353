"""Streams: many that send, many that do not, many that come and go."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any, Final

import grpc

from grpc_api.pb import ingest_pb2 as pb
from tests.pressure.http2 import Http2, call_headers, message
from tests.pressure.pressure import Tally, Target, pressure
from tests.pressure.wire import Connection, keep_open
from tests.support.stream_client import STREAM_EVENTS, batch, opening
from tests.support.tenant import event

STREAMS_A_CHANNEL: Final = 8
BACK_SECONDS: Final = 0.2
PRODUCERS: Final = 5_000  # an app may have twice as many
_producers: Final = itertools.count()
OPTIONS: Final = (("grpc.use_local_subchannel_pool", 1),)


async def send_streams(target: Target, tally: Tally, count: int, size: int) -> None:
    """So many streams that send batches as fast as they are taken, opened again when they end."""
    channels = [
        grpc.aio.insecure_channel(target.grpc_address, options=OPTIONS)
        for _ in range(-(-count // STREAMS_A_CHANNEL))
    ]
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            channel = channels[number % len(channels)]
            group.create_task(_send(channel, target.key, tally, f"stream-{number}", size))
        tally.full.set()


async def _send(channel: grpc.aio.Channel, key: str, tally: Tally, label: str, size: int) -> None:
    events = [event(f"w-{n % 50}", metadata={"batch": label}) for n in range(size)]
    data = batch(events).SerializeToString()
    method: Any = channel.stream_stream(
        STREAM_EVENTS, response_deserializer=pb.StreamEventsResponse.FromString
    )
    while True:
        call = method(metadata=(("authorization", f"Bearer {key}"),))
        writing = asyncio.ensure_future(_write(call, data, tally, label, size))
        try:
            async for response in call:
                kind = response.WhichOneof("message")
                tally.answers[kind] += 1
                if kind == "ack":
                    tally.answered[label] += size
                    tally.acknowledged[label] += response.ack.accepted
        except grpc.aio.AioRpcError as error:
            tally.answers[error.code().name] += 1
        finally:
            writing.cancel()
            call.cancel()
        await asyncio.sleep(BACK_SECONDS)


async def _write(call: Any, data: bytes, tally: Tally, label: str, size: int) -> None:
    try:
        while True:
            tally.sent[label] += size  # before: a write that fails may have been taken
            await call.write(data)
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        return  # the reader hears why


@pressure()
async def streams_of_one_tenant(target: Target, tally: Tally) -> None:
    """256 streams of one tenant that send batches of 50 events as fast as they are taken."""
    await send_streams(target, tally, 256, 50)


@pressure()
async def streams_of_full_batches(target: Target, tally: Tally) -> None:
    """64 streams of one tenant that send batches of 500 events as fast as they are taken."""
    await send_streams(target, tally, 64, 500)


class OpenStreams(Http2):
    """So many streams of producers without a batch; ``leaving``: each is left once it is open."""

    def __init__(self, tally: Tally, count: int, key: str, *, leaving: bool) -> None:
        super().__init__()
        self._tally, self._count, self._leaving = tally, count, leaving
        self._headers = call_headers("StreamEvents", key)

    def begin_calls(self) -> None:
        """Open them."""
        for _ in range(self._count):
            self._open_one()

    def _open_one(self) -> None:
        first = opening(f"producer-{next(_producers) % PRODUCERS}").SerializeToString()
        self.open(self._headers, message(first), end=False)

    def received(self, stream: int, length: int) -> None:
        """Leave a stream that is open."""
        if length:
            self._tally.answers["opened"] += 1
            if self._leaving:
                self.reset(stream)
                self._open_one()

    def ended(self, stream: int) -> None:
        """Open another one, not at once if this one was to stay."""
        self._tally.answers["ended"] += 1
        asyncio.get_running_loop().call_later(0 if self._leaving else 1, self._again)

    def _again(self) -> None:
        if not self.transport.is_closing():
            self._open_one()


@pressure()
async def streams_opened_and_left(target: Target, tally: Tally) -> None:
    """3,000 streams of one tenant on 30 connections that are opened and stay without a batch."""

    def make(_: int) -> Connection:
        return OpenStreams(tally, 100, target.key, leaving=False)

    await keep_open(target.grpc, 30, make, tally, BACK_SECONDS)


@pressure()
async def streams_opened_again_and_again(target: Target, tally: Tally) -> None:
    """256 streams of one tenant on 16 connections that are left as soon as they are open."""

    def make(_: int) -> Connection:
        return OpenStreams(tally, 16, target.key, leaving=True)

    await keep_open(target.grpc, 16, make, tally, BACK_SECONDS)
