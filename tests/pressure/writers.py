"""Clients of a soak: each sends batch after batch, each again until it is acknowledged."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections.abc import Iterator
from typing import Any, Final

import grpc

from grpc_api.pb import ingest_pb2 as pb
from grpc_api.pb.ingest_pb2_grpc import IngestServiceStub
from tests.pressure.ledger import Ledger
from tests.support.grpc_driver import event_message
from tests.support.raw_http import EVENTS, RawConnection, post
from tests.support.stream_client import batch as stream_batch
from tests.support.stream_client import opening
from tests.support.tenant import event

SIZES: Final = (1, 3, 40, 200)
AGAIN_SECONDS: Final = 0.05
PATIENCE_SECONDS: Final = 20.0
IN_FLIGHT: Final = 8  # batches of a stream
LOST: Final = (OSError, EOFError, TimeoutError, grpc.aio.AioRpcError, asyncio.InvalidStateError)


class SoakError(Exception):
    """An answer that no fault explains."""


class _Sending:
    """What a producer has sent and not seen committed, by sequence."""

    def __init__(self, batches: Iterator[tuple[str, list[dict[str, Any]]]]) -> None:
        self._batches = batches
        self.last = 0
        self.unacked: dict[int, tuple[str, list[dict[str, Any]]]] = {}

    def next(self) -> list[dict[str, Any]] | None:
        """The events of the next batch, which is ``last`` then; None if there are no more."""
        item = next(self._batches, None)
        if item is None:
            return None
        self.last += 1
        self.unacked[self.last] = item
        return item[1]


class Writers:
    """``ending``: the clients end once what they have begun is acknowledged."""

    def __init__(self, ledger: Ledger, key: str, http: str, grpc_address: str) -> None:
        self._ledger, self._key = ledger, key
        self._http, self._grpc = http, grpc_address
        self._metadata = (("authorization", f"Bearer {key}"),)
        self.ending = False

    def _batches(self, name: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        choice = random.Random(name).choice
        for number in itertools.count(1):
            if self.ending:
                return
            label = f"{name}-{number}"
            size = self._ledger.sent[label] = choice(SIZES)
            yield label, [event(f"w-{n % 7}", metadata={"batch": label}) for n in range(size)]

    async def http_client(self, name: str) -> None:
        """Batches over REST, each with an Idempotency-Key."""
        connection: RawConnection | None = None
        for label, events in self._batches(name):
            data = post(
                self._key, json.dumps({"events": events}).encode(), EVENTS, Idempotency_Key=label
            )
            while label not in self._ledger.acknowledged:
                try:
                    async with asyncio.timeout(PATIENCE_SECONDS):
                        connection = connection or await self._connect()
                        await connection.send(data)
                        answer = await connection.answer()
                except LOST:
                    if connection is not None:
                        connection.writer.transport.abort()
                    connection = None
                    await asyncio.sleep(AGAIN_SECONDS)
                    continue
                if answer.status == 202:
                    self._ledger.acknowledged.add(label)
                elif answer.status == 500 and "retry-after" in answer.headers:
                    await asyncio.sleep(AGAIN_SECONDS)
                else:
                    raise SoakError(f"{label} was answered {answer.status}: {answer.body[:200]!r}")
        if connection is not None:
            connection.writer.transport.abort()

    async def _connect(self) -> RawConnection:
        host, _, port = self._http.rpartition(":")
        return RawConnection(*await asyncio.open_connection(host, int(port)))

    async def grpc_client(self, name: str) -> None:
        """Batches by IngestEvents, each with an idempotency_key."""
        async with grpc.aio.insecure_channel(self._grpc, options=_OPTIONS) as channel:
            stub = IngestServiceStub(channel)
            for label, events in self._batches(name):
                request = pb.IngestEventsRequest(
                    events=map(event_message, events), idempotency_key=label
                )
                while label not in self._ledger.acknowledged:
                    try:
                        await stub.IngestEvents(
                            request, metadata=self._metadata, timeout=PATIENCE_SECONDS
                        )
                    except grpc.aio.AioRpcError as error:
                        _check_passing(label, error)
                        await asyncio.sleep(AGAIN_SECONDS)
                        continue
                    self._ledger.acknowledged.add(label)

    async def producer(self, name: str) -> None:
        """Numbered batches in a stream that is opened again from what is committed."""
        sending = _Sending(self._batches(name))
        async with grpc.aio.insecure_channel(self._grpc, options=_OPTIONS) as channel:
            stub = IngestServiceStub(channel)
            while sending.unacked or not self.ending:
                call = stub.StreamEvents(metadata=self._metadata)
                try:
                    await self._stream(call, name, sending)
                except grpc.aio.AioRpcError as error:
                    _check_passing(name, error)
                except LOST:
                    pass  # as the next stream will see
                finally:
                    call.cancel()
                await asyncio.sleep(AGAIN_SECONDS)

    async def _stream(self, call: Any, name: str, sending: _Sending) -> None:
        """One stream, for as long as it lasts or there is something to send."""
        await call.write(opening(name))
        self._note(sending, (await _read(call)).opened.last_sequence)
        for sequence, (_, events) in sending.unacked.items():
            await call.write(stream_batch(events, sequence=sequence))
        while sending.unacked or not self.ending:
            while len(sending.unacked) < IN_FLIGHT and (more := sending.next()) is not None:
                await call.write(stream_batch(more, sequence=sending.last))
            if sending.unacked:
                self._note(sending, (await _read(call)).ack.sequence)

    def _note(self, sending: _Sending, committed: int) -> None:
        for sequence in [one for one in sending.unacked if one <= committed]:
            self._ledger.acknowledged.add(sending.unacked.pop(sequence)[0])


_OPTIONS: Final = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
)
_PASSING: Final = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.INTERNAL,  # what grpc.aio makes of a stream that ended while it wrote
)


async def _read(call: Any) -> pb.StreamEventsResponse:
    async with asyncio.timeout(PATIENCE_SECONDS):
        response = await call.read()
    if not isinstance(response, pb.StreamEventsResponse):
        raise EOFError("the stream ended")
    return response


def _check_passing(label: str, error: grpc.aio.AioRpcError) -> None:
    if error.code() not in _PASSING:
        raise SoakError(f"{label} was answered {error.code()}: {error.details()}")


async def run_writers(writers: Writers, count: int) -> None:
    """So many clients of each kind, until they end; an error of one ends all."""
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(writers.http_client(f"http-{number}"))
            group.create_task(writers.grpc_client(f"grpc-{number}"))
            group.create_task(writers.producer(f"producer-{number}"))
