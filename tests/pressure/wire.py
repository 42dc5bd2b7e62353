"""Connections by the thousand with few allocations, and the bytes of HTTP/1.1 requests."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any, Final, cast

from tests.pressure.pressure import Tally
from tests.support.raw_http import EVENTS, head, post
from tests.support.tenant import event

OPENING_AT_ONCE: Final = 64  # a listener's backlog is not what is tested
REFUSED_PAUSE_SECONDS: Final = 0.1


class Connection(asyncio.Protocol):
    """One TCP connection; ``lost`` is done when it is."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.writable = asyncio.Event()
        self.writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one by its methods only
        self.begin()

    def begin(self) -> None:
        """Send what comes first."""

    def connection_lost(self, error: Exception | None) -> None:
        """End."""
        self.writable.set()
        if not self.lost.done():
            self.lost.set_result(None)

    def pause_writing(self) -> None:
        """The peer does not read."""
        self.writable.clear()

    def resume_writing(self) -> None:
        """It does again."""
        self.writable.set()


class Caller(Connection):
    """Sends one request after the other, each when the one before is answered.

    ``label``: of the ``events`` in each request, if the tally is to follow them.
    """

    def __init__(
        self, tally: Tally, request: Callable[[], bytes], label: str = "", events: int = 0
    ) -> None:
        super().__init__()
        self._tally, self._request = tally, request
        self._label, self._events = label, events
        self._received = b""

    def begin(self) -> None:
        """Send a request."""
        if self._events:
            self._tally.sent[self._label] += self._events
        self.transport.write(self._request())

    def data_received(self, data: bytes) -> None:
        """Take what may be an answer, and send the next request."""
        received = self._received = self._received + data if self._received else data
        body = received.find(b"\r\n\r\n") + 4
        if body < 4:
            return
        length = received.lower().find(b"content-length: ", 0, body) + 16
        if length >= 16:
            body += int(received[length : received.find(b"\r", length)])
        if len(received) < body:
            return
        self._received = received[body:]
        status = received[9:12].decode()
        self._tally.answers[status] += 1
        if self._events:
            self._tally.answered[self._label] += self._events
            if status == "202":
                self._tally.acknowledged[self._label] += self._events
        self.begin()


async def keep_open(
    address: tuple[str, int],
    count: int,
    make: Callable[[int], Connection],
    tally: Tally,
    pause_seconds: float = 0.0,
) -> None:
    """Hold ``count`` connections until cancelled; a lost one is opened again after the pause."""
    loop = asyncio.get_running_loop()
    opening = asyncio.Semaphore(OPENING_AT_ONCE)
    missing = count

    async def hold(number: int) -> None:
        nonlocal missing
        is_first = True
        while True:
            connection = make(number)
            try:
                async with opening:
                    await loop.create_connection(lambda: connection, *address)  # noqa: B023
            except OSError:
                tally.answers["refused"] += 1
                await asyncio.sleep(REFUSED_PAUSE_SECONDS)
                continue
            if is_first:
                is_first, missing = False, missing - 1
                if missing == 0:
                    tally.full.set()
            try:
                await connection.lost
                tally.answers["closed"] += 1
            finally:
                with contextlib.suppress(AttributeError):
                    connection.transport.abort()
            await asyncio.sleep(pause_seconds)

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(hold(number))


def batch(label: str, size: int, **members: Any) -> bytes:
    """The JSON of a batch whose events carry a label."""
    metadata = {"batch": label}
    events = [event(f"w-{n % 50}", metadata=metadata, **members) for n in range(size)]
    return json.dumps({"events": events}, separators=(",", ":")).encode()


def get(path: str, key: str | None = None) -> bytes:
    """A GET request."""
    return head(key, "GET", path, Content_Type=None)


__all__ = ["EVENTS", "Caller", "Connection", "batch", "get", "head", "keep_open", "post"]
