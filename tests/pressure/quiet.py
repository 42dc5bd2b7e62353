"""The quiet tenant: 20 requests a second in each of three lanes, and a newcomer now and then.

The lanes are kept HTTP connections, kept gRPC calls and one stream. A request is timed from when
it was due, so that one that waits for a connection counts from its beginning. A newcomer opens a
connection of its own and asks with a key that has not been used before, if there still is one.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc
import uvloop

from grpc_api.pb import ingest_pb2 as pb
from grpc_api.pb.ingest_pb2_grpc import IngestServiceStub
from tests.pressure.child import order, tell, until_ended
from tests.pressure.wire import batch
from tests.support.grpc_driver import event_message
from tests.support.raw_http import EVENTS, PING, Answer, RawConnection, head, post
from tests.support.stream_client import batch as stream_batch
from tests.support.tenant import event

RATE: Final = 20  # a second, in each lane
NEWCOMER_SECONDS: Final = 0.5
KEPT_CONNECTIONS: Final = 8
PATIENCE_SECONDS: Final = 15.0  # clients give up then
OWN_CHANNEL: Final = (("grpc.use_local_subchannel_pool", 1),)

Ask = Callable[[str], Awaitable[str | None]]  # a batch's label; what went wrong, if something did


def _events(label: str) -> list[dict[str, Any]]:
    return [event(metadata={"batch": label})]


class Http:
    """Kept connections, each with one request at a time."""

    def __init__(self, address: tuple[str, int], key: str) -> None:
        self._address, self._key = address, key
        self._free: asyncio.Queue[RawConnection | None] = asyncio.Queue()
        for _ in range(KEPT_CONNECTIONS):
            self._free.put_nowait(None)

    async def ask(self, label: str) -> str | None:
        """Post a batch."""
        connection = await self._free.get()
        try:
            if connection is None:
                connection = RawConnection(*await asyncio.open_connection(*self._address))
            await connection.send(post(self._key, batch(label, 1), EVENTS))
            answer = await connection.answer()
        except BaseException:
            if connection is not None:
                connection.writer.transport.abort()
            connection = None
            raise
        finally:
            self._free.put_nowait(connection)
        return None if answer.status == 202 else _problem(answer)


class Grpc:
    """One kept channel."""

    def __init__(self, address: str, key: str) -> None:
        self._stub = IngestServiceStub(grpc.aio.insecure_channel(address, options=OWN_CHANNEL))
        self._metadata = (("authorization", f"Bearer {key}"),)

    async def ask(self, label: str) -> str | None:
        """IngestEvents."""
        request = pb.IngestEventsRequest(events=[event_message(one) for one in _events(label)])
        response = await self._stub.IngestEvents(request, metadata=self._metadata)
        return None if len(response.accepted) == 1 else "not accepted"


class Stream:
    """One stream, opened again if it ends; acks come in the order of the batches."""

    def __init__(self, address: str, key: str) -> None:
        self._stub = IngestServiceStub(grpc.aio.insecure_channel(address, options=OWN_CHANNEL))
        self._metadata = (("authorization", f"Bearer {key}"),)
        self._call: Any = None
        self._acks: list[asyncio.Future[str | None]] = []
        self._reader: asyncio.Future[None] | None = None
        self._writing = asyncio.Lock()

    async def ask(self, label: str) -> str | None:
        """Send a batch and wait for its ack."""
        ack: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        async with self._writing:
            if self._call is None:
                self._call = self._stub.StreamEvents(metadata=self._metadata)
                self._reader = asyncio.ensure_future(self._read(self._call))
            self._acks.append(ack)
            with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await self._call.write(stream_batch(_events(label)))
        return await ack

    async def _read(self, call: Any) -> None:
        problem = "ended"
        try:
            async for response in call:
                if response.WhichOneof("message") == "ack":
                    ack = self._acks.pop(0)
                    if not ack.done():
                        ack.set_result(None if response.ack.accepted == 1 else "not accepted")
        except grpc.aio.AioRpcError as error:
            problem = _grpc_problem(error)
        self._call, acks, self._acks = None, self._acks, []
        for ack in acks:
            if not ack.done():
                ack.set_result(problem)


async def http_newcomer(address: tuple[str, int], key: str) -> str | None:
    """Ping on a new HTTP connection."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        connection = RawConnection(reader, writer)
        await connection.send(head(key, "GET", PING, Content_Type=None))
        answer = await connection.answer()
    finally:
        writer.transport.abort()
    return None if answer.status == 200 else _problem(answer)


async def grpc_newcomer(address: str, key: str) -> str | None:
    """Ping on a new gRPC connection."""
    async with grpc.aio.insecure_channel(address, options=OWN_CHANNEL) as channel:
        metadata = (("authorization", f"Bearer {key}"),)
        await IngestServiceStub(channel).Ping(pb.PingRequest(), metadata=metadata)
    return None


def _problem(answer: Answer) -> str:
    return f"{answer.status} {answer.code}"


def _grpc_problem(error: grpc.aio.AioRpcError) -> str:
    return f"{error.code().name} {error.details() or ''}".strip()[:120]


async def _timed(lane: str, label: str, ask: Ask) -> None:
    begin = time.monotonic()
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            problem = await ask(label)
    except TimeoutError:
        problem = f"no answer in {PATIENCE_SECONDS:.0f} s"
    except grpc.aio.AioRpcError as error:
        problem = _grpc_problem(error)
    except (OSError, EOFError) as error:
        problem = repr(error)
    tell([lane, begin, time.monotonic() - begin, problem, label])


async def _pace(group: asyncio.TaskGroup, lane: str, period: float, ask: Ask) -> None:
    """Ask at a steady pace, however long answers take; late after a pause of our own, not more."""
    loop = asyncio.get_running_loop()
    due = loop.time()
    for number in itertools.count():
        group.create_task(_timed(lane, f"{lane}-{number}", ask))
        due = max(due + period, loop.time() - period)
        await asyncio.sleep(due - loop.time())


async def main() -> None:
    """Go on until stdin ends, and then until all that was asked is answered."""
    asked = order()
    http, key = tuple(asked["http"]), asked["key"]
    lanes: dict[str, Ask] = {
        "http": Http(http, key).ask,
        "grpc": Grpc(asked["grpc"], key).ask,
        "stream": Stream(asked["grpc"], key).ask,
    }
    fresh = itertools.cycle(asked["newcomers"])
    newcomers: dict[str, Ask] = {
        "newcomer http": lambda _: http_newcomer(http, next(fresh)),
        "newcomer grpc": lambda _: grpc_newcomer(asked["grpc"], next(fresh)),
    }
    async with asyncio.TaskGroup() as group:
        paces = [
            group.create_task(_pace(group, lane, period, ask))
            for asks, period in ((lanes, 1 / RATE), (newcomers, NEWCOMER_SECONDS))
            for lane, ask in asks.items()
        ]
        await until_ended()
        for pace in paces:
            pace.cancel()


if __name__ == "__main__":
    uvloop.run(main())
