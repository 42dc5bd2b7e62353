"""Requests that begin and do not end: memory that strangers and tenants can take."""

from __future__ import annotations

import asyncio
from typing import Final

from tests.pressure.http2 import Http2, call_headers, message
from tests.pressure.pressure import Tally, Target, pressure
from tests.pressure.wire import EVENTS, Connection, batch, head, keep_open

BODY_BYTES: Final = 1_048_576
MOST_CALLS: Final = 200  # of a connection
BACK_SECONDS: Final = 0.5
LARGEST_BYTES: Final = 5 * BODY_BYTES // 4  # that the service has the library take
LARGE_MESSAGE_BYTES: Final = 4 * 1_048_576 - 1  # the most that the library takes by itself


class HalfSent(Connection):
    """Sends all of a body but its last byte, or a beginning of it and then little by little."""

    def __init__(self, key: str, first: bytes, step: bytes = b"") -> None:
        super().__init__()
        self._head = head(key, "POST", EVENTS, Content_Length=BODY_BYTES)
        self._first, self._step = first, step

    def begin(self) -> None:
        """Send what comes at once."""
        self.transport.write(self._head)
        self.transport.write(self._first)
        if self._step:
            self._drip()

    def _drip(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(self._step)
            asyncio.get_running_loop().call_later(1.0, self._drip)

    def data_received(self, data: bytes) -> None:
        """Go away once answered, and come again."""
        self.transport.close()


@pressure(silent=True)
async def half_sent_bodies(target: Target, tally: Tally) -> None:
    """2,000 bodies of 1 MB of one key, each without its last byte."""
    first = bytes(BODY_BYTES - 1)
    make = lambda _: HalfSent(target.key, first)  # noqa: E731
    await keep_open(target.http, 2_000, make, tally, BACK_SECONDS)


@pressure(silent=True)
async def dripping_bodies(target: Target, tally: Tally) -> None:
    """2,000 bodies of 1 MB of one key that arrive at 4 KiB a second after their first 200 KiB."""
    first, step = bytes(200 * 1_024), bytes(4 * 1_024)
    make = lambda _: HalfSent(target.key, first, step)  # noqa: E731
    await keep_open(target.http, 2_000, make, tally, BACK_SECONDS)


class UnfinishedMessages(Http2):
    """Calls whose message never gets its last byte; a call that is ended is begun again."""

    def __init__(
        self, calls: int, size: int, key: str | None, method: str = "IngestEvents"
    ) -> None:
        super().__init__()
        self._calls = calls
        self._headers = call_headers(method, key)
        self._data = message(bytes(size - 1), declared=size)

    def begin_calls(self) -> None:
        """Begin them all."""
        for _ in range(self._calls):
            self.open(self._headers, self._data, end=False)

    def ended(self, stream: int) -> None:
        """Begin another one, not at once."""
        loop = asyncio.get_running_loop()
        loop.call_later(BACK_SECONDS, self._again)

    def _again(self) -> None:
        if not self.transport.is_closing():
            self.open(self._headers, self._data, end=False)


async def _unfinished(target: Target, tally: Tally, size: int, calls: int = 20) -> None:
    make = lambda _: UnfinishedMessages(calls, size, None)  # noqa: E731
    await keep_open(target.grpc, 20, make, tally, BACK_SECONDS)


@pressure(silent=True)
async def unfinished_messages(target: Target, tally: Tally) -> None:
    """400 gRPC messages of 4 MiB without a credential, each without its last byte."""
    await _unfinished(target, tally, LARGE_MESSAGE_BYTES)


@pressure(silent=True)
async def unfinished_small_messages(target: Target, tally: Tally) -> None:
    """400 gRPC messages of 1 MiB without a credential, each without its last byte."""
    await _unfinished(target, tally, BODY_BYTES)


@pressure(silent=True)
async def unfinished_messages_in_all_calls(target: Target, tally: Tally) -> None:
    """The same as 200 on each of 20 connections, more than the service tells clients to have."""
    await _unfinished(target, tally, BODY_BYTES, MOST_CALLS)


@pressure(silent=True)
async def unfinished_messages_of_streams(target: Target, tally: Tally) -> None:
    """600 streams of one tenant with a message of 1.25 MiB each, without its last byte."""
    make = lambda _: UnfinishedMessages(20, LARGEST_BYTES, target.key, "StreamEvents")  # noqa: E731
    await keep_open(target.grpc, 30, make, tally, BACK_SECONDS)


class HalfBatch(Connection):
    """Sends half of a valid batch and hangs up."""

    def __init__(self, key: str, body: bytes) -> None:
        super().__init__()
        self._request = head(key, "POST", EVENTS, Content_Length=len(body)) + body[: len(body) // 2]

    def begin(self) -> None:
        """Send it."""
        self.transport.write(self._request)
        self.transport.close()


@pressure(silent=True)
async def bodies_cut_off(target: Target, tally: Tally) -> None:
    """256 clients that hang up in the middle of batch after batch."""
    body = batch("half", 500)
    await keep_open(target.http, 256, lambda _: HalfBatch(target.key, body), tally)
