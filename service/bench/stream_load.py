"""gRPC load: streams of prepared batches, as fast as acked or at a fixed rate."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from typing import Any, Final

import grpc

from grpc_api.pb import ingest_pb2 as pb
from service.bench.http_load import ANSWER_SECONDS, CONNECT_SECONDS, LoadError
from service.bench.load import StreamLoad
from service.bench.pace import Pace, paces
from service.bench.recorder import Recorder, now
from service.bench.sample import StreamBatches

METHOD: Final = "/wepeople.ingest.v1.IngestService/StreamEvents"
TOO_SOON: Final = "the server ended a stream before everything was acked"


async def run_streams(load: StreamLoad, recorder: Recorder) -> None:
    """Make the load until the recorder's end.

    Raises groups of LoadError, AioRpcError and TimeoutError if the server does not take it.
    """
    batches = StreamBatches(load.batch)
    run = os.urandom(8).hex()
    async with (
        asyncio.timeout(recorder.ends - now() + ANSWER_SECONDS),
        asyncio.TaskGroup() as group,
    ):
        for number, pace in enumerate(paces(recorder, load.rate, load.producers)):
            producer = _Producer(load, recorder, batches, pace)
            group.create_task(producer.run(f"bench-{run}-{number}"))


def open_channel(server: str, *, tls: bool) -> grpc.aio.Channel:
    """A channel with a connection of its own."""
    # Otherwise channels to one address share a connection.
    options = (("grpc.use_local_subchannel_pool", 1),)
    if tls:
        return grpc.aio.secure_channel(server, grpc.ssl_channel_credentials(), options)
    return grpc.aio.insecure_channel(server, options)


class _Producer:
    """One stream on a connection of its own."""

    def __init__(
        self,
        load: StreamLoad,
        recorder: Recorder,
        batches: StreamBatches,
        pace: Pace,
    ) -> None:
        self._load = load
        self._recorder = recorder
        self._batches = batches
        self._pace = pace
        self._sent: deque[float] = deque()  # times at which the batches without an ack were due
        self._sent_all = False

    async def run(self, producer_id: str) -> None:
        async with open_channel(self._load.server, tls=self._load.tls) as channel:
            call: Any = channel.stream_stream(METHOD, None, pb.StreamEventsResponse.FromString)(
                metadata=(("authorization", f"Bearer {self._load.key}"),)
            )
            opening = pb.StreamEventsRequest(open=pb.StreamOpen(producer_id=producer_id))
            async with asyncio.timeout(CONNECT_SECONDS):
                with contextlib.suppress(asyncio.InvalidStateError):  # the reading says why
                    await call.write(opening.SerializeToString())
                first = await call.read()
            if first is grpc.aio.EOF:
                raise LoadError(TOO_SOON)
            room = asyncio.Semaphore(first.opened.max_in_flight)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._send(call, room))
                await self._receive(call, room)

    async def _send(self, call: Any, room: asyncio.Semaphore) -> None:
        sequence = 0
        while (intended := await self._pace.due()) < self._recorder.ends:
            try:
                async with asyncio.timeout(max(self._recorder.ends - now(), 0)):
                    await room.acquire()
            except TimeoutError:
                self._recorder.unsent(intended)
                continue
            sequence += 1
            self._sent.append(intended if self._pace.interval is not None else now())
            try:
                await call.write(self._batches.message(sequence))
            except (asyncio.InvalidStateError, grpc.aio.AioRpcError):
                return  # the stream has ended; the reader says why
        self._sent_all = True
        with contextlib.suppress(grpc.aio.InternalError):  # the same
            await call.done_writing()

    async def _receive(self, call: Any, room: asyncio.Semaphore) -> None:
        while (response := await call.read()) is not grpc.aio.EOF:
            if response.ack.accepted != self._load.batch:
                rejected = response.ack.rejected
                raise LoadError(rejected[0].message if rejected else "a batch was not accepted")
            self._recorder.answered(self._sent.popleft(), self._load.batch)
            room.release()
        if self._sent or not self._sent_all:
            raise LoadError(TOO_SOON)
