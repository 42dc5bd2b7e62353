"""HTTP load: prepared requests over kept connections, as fast as answered or at a fixed rate."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections import deque
from typing import Final, cast
from urllib.parse import urlsplit

from service.bench.load import HttpLoad
from service.bench.recorder import Recorder, now
from service.bench.sample import json_batch

ACCEPTED: Final = (200, 202)
CONNECT_SECONDS: Final = 10.0
ANSWER_SECONDS: Final = 30.0  # after the end, for requests in flight
_KEY_DIGITS: Final = 12


class LoadError(Exception):
    """The load cannot be made; the message says why."""


async def run_http(load: HttpLoad, recorder: Recorder) -> None:
    """Make the load until the recorder's end.

    Raises LoadError, OSError or TimeoutError if the server does not take it.
    """
    parts = urlsplit(load.url)
    assert parts.hostname is not None
    secure = ssl.create_default_context() if parts.scheme == "https" else None
    port = parts.port or (443 if secure else 80)
    requests = _Requests(load, parts.netloc)
    loop = asyncio.get_running_loop()
    dispatcher = _Dispatcher(load, recorder, requests)
    opened: list[_HttpClient] = []
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            for _ in range(load.connections):
                _, connection = await loop.create_connection(
                    lambda: _HttpClient(dispatcher), parts.hostname, port, ssl=secure
                )
                opened.append(connection)
        dispatcher.start(opened)
        async with asyncio.timeout(recorder.ends - now() + ANSWER_SECONDS):
            await dispatcher.done
    finally:
        dispatcher.stop()
        for connection in opened:
            connection.close()


class _Requests:
    """The bytes of the requests, which differ in the idempotency key alone."""

    def __init__(self, load: HttpLoad, host: str) -> None:
        body = json_batch(load.batch)
        head = (
            f"POST {load.path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {load.key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        )
        self._number = 0
        self._end = b"\r\n" + body
        self._start = head.encode()
        self._prepared = None if load.idempotency_keys else self._start + self._end
        if load.idempotency_keys:
            self._start += f"Idempotency-Key: bench-{os.urandom(8).hex()}-".encode()
            self._end = b"\r\n" + self._end

    def next(self) -> bytes:
        if self._prepared is not None:
            return self._prepared
        self._number += 1
        return b"".join((self._start, str(self._number).zfill(_KEY_DIGITS).encode(), self._end))


class _Dispatcher:
    """Sends each connection its next request: at once, or when it is due."""

    def __init__(self, load: HttpLoad, recorder: Recorder, requests: _Requests) -> None:
        self._batch = load.batch
        self._interval = None if load.rate is None else 1 / load.rate
        self._recorder = recorder
        self._requests = requests
        self._idle: deque[_HttpClient] = deque()
        self._due: deque[float] = deque()  # when the requests that wait for a connection were due
        self._next_due = 0.0
        self._busy = 0
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self._loop.create_future()

    def start(self, connections: list[_HttpClient]) -> None:
        if self._interval is None:
            for connection in connections:
                self._send(connection, now())
            return
        self._idle.extend(connections)
        self._next_due = now()
        self._tick()

    def _tick(self) -> None:
        """Send the requests that are due, as far as connections are free."""
        assert self._interval is not None
        at = now()
        while self._next_due <= min(at, self._recorder.ends):
            self._due.append(self._next_due)
            self._next_due += self._interval
        while self._due and self._idle:
            self._send(self._idle.popleft(), self._due.popleft())
        if self._next_due < self._recorder.ends:
            self._timer = self._loop.call_later(max(self._next_due - at, 0), self._tick)
        else:
            self._timer = self._loop.call_later(max(self._recorder.ends - at, 0), self._end)

    def _end(self) -> None:
        for intended in self._due:
            self._recorder.unsent(intended)
        self._due.clear()
        self._interval = None
        self._finish_if_idle()

    def _send(self, connection: _HttpClient, intended: float) -> None:
        self._busy += 1
        connection.send(self._requests.next(), intended)

    def answered(self, connection: _HttpClient, intended: float) -> None:
        """A connection has its answer and is free."""
        self._busy -= 1
        self._recorder.answered(intended, self._batch)
        if now() >= self._recorder.ends:
            self._finish_if_idle()
        elif self._interval is None:
            self._send(connection, now())
        elif self._due:
            self._send(connection, self._due.popleft())
        else:
            self._idle.append(connection)

    def _finish_if_idle(self) -> None:
        if not self._busy and self._interval is None and not self.done.done():
            self.done.set_result(None)

    def failed(self, reason: str) -> None:
        if not self.done.done():
            self.done.set_exception(LoadError(reason))

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.done.cancel()


class _HttpClient(asyncio.Protocol):
    """A connection with one request at a time; it reads an answer's status and length only."""

    def __init__(self, dispatcher: _Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._received = b""
        self._missing = 0  # bytes of the answer, once its head is known
        self._closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._closed:
            self._dispatcher.failed("the server closed a connection")

    def send(self, request: bytes, intended: float) -> None:
        self._intended = intended
        self._transport.write(request)

    def close(self) -> None:
        self._closed = True
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._missing:
            self._missing -= len(data)
            if not self._missing:
                self._dispatcher.answered(self, self._intended)
            return
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        status = int(head[9:12])
        if status not in ACCEPTED:
            text = body[:300].decode(errors="replace")
            self._dispatcher.failed(f"the server answered with status {status}: {text}")
            return
        self._received = b""
        length = int(head.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        self._missing = length - len(body)
        if not self._missing:
            self._dispatcher.answered(self, self._intended)
