"""Connections that do nothing, or next to nothing."""

from __future__ import annotations

import asyncio
from typing import Final

from tests.pressure.pressure import Tally, Target, pressure
from tests.pressure.wire import Connection, get, head, keep_open

IDLE: Final = 5_000  # to each protocol; more than both take together with DESCRIPTORS
DESCRIPTORS: Final = 8_192
FEW_DESCRIPTORS: Final = 1_024
BACK_SECONDS: Final = 1.0  # after which one that was closed comes again
PIPELINED_BYTES: Final = 273_000


async def _idle(target: Target, tally: Tally, count: int) -> None:
    http, grpc = Tally(), Tally()

    async def note_full() -> None:
        await http.full.wait()
        await grpc.full.wait()
        tally.full.set()

    async with asyncio.TaskGroup() as group:
        for address, part in ((target.http, http), (target.grpc, grpc)):
            part.answers = tally.answers
            group.create_task(keep_open(address, count, lambda _: Connection(), part, BACK_SECONDS))
        group.create_task(note_full())


@pressure(descriptors=DESCRIPTORS, silent=True)
async def idle_connections(target: Target, tally: Tally) -> None:
    """5,000 connections to each port that say nothing, more than the service takes."""
    await _idle(target, tally, IDLE)


@pressure(descriptors=FEW_DESCRIPTORS, silent=True)
async def idle_connections_few_descriptors(target: Target, tally: Tally) -> None:
    """1,500 idle connections to each port of a service with `ulimit -n 1024`."""
    await _idle(target, tally, 1_500)


class SlowHeaders(Connection):
    """Sends its request line and then a byte of headers each second."""

    def begin(self) -> None:
        """Send the first line."""
        self.transport.write(b"POST /api/v1/ingest/events HTTP/1.1\r\nHost: test\r\nX-Slow: ")
        self._drip()

    def _drip(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(b"x")
            asyncio.get_running_loop().call_later(1.0, self._drip)


@pressure(silent=True)
async def slow_headers(target: Target, tally: Tally) -> None:
    """2,000 connections that send a byte of headers each second."""
    await keep_open(target.http, 2_000, lambda _: SlowHeaders(), tally)


class Unread(Connection):
    """Pipelines requests and reads none of the answers."""

    def __init__(self, requests: bytes) -> None:
        super().__init__()
        self._requests = requests

    def begin(self) -> None:
        """Send all that the socket takes."""
        self.transport.pause_reading()
        self.transport.write(self._requests)


@pressure(silent=True)
async def pipelined_unread(target: Target, tally: Tally) -> None:
    """200 connections with 273 KB of pipelined requests each, whose answers nobody reads."""
    request = get("/developers/reference", target.key)
    requests = request * (PIPELINED_BYTES // len(request))
    await keep_open(target.http, 200, lambda _: Unread(requests), tally, BACK_SECONDS)


class Hammer(Connection):
    """Opens a connection for one request that the service refuses, again and again."""

    def begin(self) -> None:
        """Ask for nothing that there is."""
        self.transport.write(head(None, "GET", "/nothing", Connection="close"))


@pressure(silent=True)
async def connections_opened_and_closed(target: Target, tally: Tally) -> None:
    """64 clients that open a connection for each request."""
    await keep_open(target.http, 64, lambda _: Hammer(), tally)
