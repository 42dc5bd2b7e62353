"""HTTP/2 frames that cost the server more than the client."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from typing import Final

from tests.pressure.http2 import (
    CANCEL,
    CONTINUATION,
    END_HEADERS,
    HEADERS,
    MAX_FRAME,
    PING,
    RST_STREAM,
    Http2,
    call_headers,
    frame,
    literal,
    write_on,
)
from tests.pressure.pressure import Tally, Target, pressure
from tests.pressure.wire import Connection, keep_open

CHANNELS: Final = 8
BURST: Final = 100  # frames written at a time
LARGE_VALUE: Final = "x" * 4_000  # fits the table of 4,096 bytes that HPACK begins with
REFERENCE: Final = b"\xbe"  # the newest entry of that table
KEPT_REFERENCES: Final = 200  # a call's metadata stay below what the library refuses


class Busy(Http2):
    """Does one thing as long as the connection lasts."""

    def __init__(self, what: Callable[[Busy], Awaitable[None]]) -> None:
        super().__init__()
        self._what = what
        self._task: asyncio.Future[None] | None = None

    def begin_calls(self) -> None:
        """Begin it."""
        self._task = asyncio.ensure_future(self._what(self))

    def next_stream(self) -> int:
        """The number of a new stream."""
        self._next_stream += 2
        return self._next_stream - 2


async def _reset_rapidly(connection: Busy) -> None:
    headers = call_headers("IngestEvents", None)
    while not connection.lost.done():
        parts: list[bytes] = []
        for _ in range(BURST):
            stream = connection.next_stream()
            parts += (
                frame(HEADERS, END_HEADERS, stream, headers),
                frame(RST_STREAM, 0, stream, CANCEL),
            )
        connection.transport.write(b"".join(parts))
        await connection.writable.wait()
        await asyncio.sleep(0)


@pressure(silent=True)
async def rapid_reset(target: Target, tally: Tally) -> None:
    """Calls that are reset as they begin, as fast as 8 connections take them."""
    await keep_open(target.grpc, CHANNELS, lambda _: Busy(_reset_rapidly), tally)


async def _ping(connection: Busy) -> None:
    connection.transport.pause_reading()
    await write_on(connection, frame(PING, 0, 0, bytes(8)) * BURST)


@pressure(silent=True)
async def unread_ping_acks(target: Target, tally: Tally) -> None:
    """Pings whose acks nobody reads, as fast as 8 connections take them."""
    await keep_open(target.grpc, CHANNELS, lambda _: Busy(_ping), tally)


class Kept(Http2):
    """Calls with many metadata that are sent once and referred to; they never get a message."""

    def begin_calls(self) -> None:
        """Begin as many as a connection may have."""
        headers = call_headers("IngestEvents", None)
        block = headers + literal("x-a", "", first=0x40)
        for _ in range(900):
            self.open(block)
            block = headers + REFERENCE * KEPT_REFERENCES


async def _refer(connection: Busy) -> None:
    headers = call_headers("IngestEvents", None)
    stream = connection.next_stream()
    first = headers + literal("x-large", LARGE_VALUE, first=0x40)
    connection.transport.write(frame(HEADERS, END_HEADERS, stream, first))
    while not connection.lost.done():
        stream = connection.next_stream()
        references = REFERENCE * (MAX_FRAME - len(headers))
        connection.transport.write(
            frame(HEADERS, 0, stream, headers + references)
            + frame(CONTINUATION, END_HEADERS, stream, REFERENCE * MAX_FRAME)
        )
        await connection.writable.wait()
        await asyncio.sleep(0)


@pressure(silent=True)
async def hpack_references_kept(target: Target, tally: Tally) -> None:
    """28,800 calls on 32 connections with 200 metadata each that are a byte on the wire."""
    await keep_open(target.grpc, 32, lambda _: Kept(), tally, 0.5)


@pressure(silent=True)
async def hpack_references(target: Target, tally: Tally) -> None:
    """Metadata of 128 MB for each 32 KB on the wire, on 32 connections."""

    def make(_: int) -> Connection:
        return Busy(_refer)

    await keep_open(target.grpc, 32, make, tally, 0.05)


async def _grow_windows(connection: Busy) -> None:
    await write_on(connection, frame(8, 0, 0, struct.pack(">I", 1)) * BURST)


@pressure(silent=True)
async def window_updates(target: Target, tally: Tally) -> None:
    """WINDOW_UPDATE frames of one byte, as fast as 8 connections take them."""
    await keep_open(target.grpc, CHANNELS, lambda _: Busy(_grow_windows), tally)
