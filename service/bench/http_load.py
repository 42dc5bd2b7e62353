"""HTTP load: prepared requests over kept connections, as fast as answered or at a fixed rate."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from typing import Final, cast
from urllib.parse import urlsplit, urlunsplit

import httptools
import msgspec

from service.bench.load import HttpLoad
from service.bench.recorder import Recorder, now
from service.bench.success import MAX_SHOWN_CHARACTERS, Success
from service.bench.templates import Template, length, unique_ids

CONNECT_SECONDS: Final = 10.0
ANSWER_SECONDS: Final = 30.0  # after the end, for requests in flight
MAX_JUDGED_BYTES: Final = 8 * 1_048_576  # of an answer whose JSON is looked at


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
    target = urlunsplit(("", "", parts.path or "/", parts.query, ""))
    requests = _Requests(load, parts.netloc.rpartition("@")[2], target)
    loop = asyncio.get_running_loop()
    dispatcher = _Dispatcher(load, recorder, requests)
    opened: list[_HttpClient] = []
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            for _ in range(load.connections):
                _, connection = await loop.create_connection(
                    lambda: _HttpClient(dispatcher, load.success), parts.hostname, port, ssl=secure
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
    """The bytes of the requests, which differ in their ids alone."""

    def __init__(self, load: HttpLoad, host: str, target: str) -> None:
        headers = {"Host": host, **load.headers, "Content-Length": str(length(load.body))}
        lines = [f"{load.method} {target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._template = Template.of("\r\n".join([*lines, "", load.body]))
        self._ids = unique_ids()

    def next(self) -> bytes:
        return self._template.render(self._ids)


class _Dispatcher:
    """Sends each connection its next request: at once, or when it is due."""

    def __init__(self, load: HttpLoad, recorder: Recorder, requests: _Requests) -> None:
        self._batch = load.batch
        self._skip_missed = load.skip_missed
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
            self._due.popleft()
            self._send(self._idle.popleft(), now())  # it was free: only the timer was late
        if self._skip_missed:
            self._due.clear()
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
    """A connection with one request at a time; it keeps no more of an answer than is judged."""

    def __init__(self, dispatcher: _Dispatcher, success: Success) -> None:
        self._dispatcher = dispatcher
        self._success = success
        self._parser = httptools.HttpResponseParser(self)
        self._status = 0
        self._body = bytearray()
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
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._dispatcher.failed(f"the server's answer is not HTTP/1.1: {error}")

    # --- for the parser --------------------------------------------------------------------------

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()
        self._body = bytearray()

    def on_body(self, body: bytes) -> None:
        is_success = self._status in self._success.status
        if is_success and self._success.path is None:
            return
        most = MAX_JUDGED_BYTES if is_success else MAX_SHOWN_CHARACTERS
        self._body += body[: most - len(self._body)]
        if len(self._body) == most:
            too_long = f"an answer has {most:,} bytes or more: too many to be judged"
            self._dispatcher.failed(too_long if is_success else self._refusal())

    def on_message_complete(self) -> None:
        problem = self._problem()
        if problem is None:
            self._dispatcher.answered(self, self._intended)
        else:
            self._dispatcher.failed(problem)

    def _problem(self) -> str | None:
        """The reason why the answer is no success; None if it is one."""
        if self._status not in self._success.status:
            return self._refusal()
        if self._success.path is None:
            return None
        try:
            return self._success.problem(msgspec.json.decode(self._body))
        except msgspec.DecodeError as error:
            return f"an answer is not JSON: {error}"

    def _refusal(self) -> str:
        text = self._body[:MAX_SHOWN_CHARACTERS].decode(errors="replace")
        return f"the server answered with status {self._status}: {text}"
