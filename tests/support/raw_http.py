"""HTTP by hand, for what a client library is too polite to send."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tests.support.tenant import event

EVENTS = "/api/v1/ingest/events"
SNAPSHOTS = "/api/v1/ingest/snapshots"
PING = "/api/v1/ingest/ping"
ONE = json.dumps({"events": [event()]}).encode()  # a valid body
ANSWER_SECONDS = 20.0


@dataclass(frozen=True)
class Answer:
    """One response as it was on the wire; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The error code."""
        return str(self.json["error"]["code"])


def check_error(answer: Answer, status: int, code: str) -> str:
    """The one envelope of contract section 3, and its headers; returns the message."""
    assert (answer.status, answer.code) == (status, code), answer
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-api-version"] == "2026-04-01"
    error = answer.json["error"]
    assert set(error) == {"code", "message", "requestId", "docsUrl"}
    assert error["requestId"] == answer.headers["x-request-id"]
    assert error["docsUrl"].endswith(f"/developers/reference#{code}")
    return str(error["message"])


class RawConnection:
    """A TCP connection that sends any bytes and reads responses."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Send; a peer that hangs up meanwhile is not an error, what it answered is read later."""
        with contextlib.suppress(ConnectionError):
            self.writer.write(data)
            await self.writer.drain()

    async def answer(self, *, of_head: bool = False) -> Answer:
        """Read one response; ``of_head``: to a HEAD request, which has no body."""
        async with asyncio.timeout(ANSWER_SECONDS):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            line, *fields = head.rstrip().split("\r\n")
            pairs = [field.split(": ", 1) for field in fields]
            headers = {name.lower(): value for name, value in pairs}
            assert len(headers) == len(pairs), f"a header was sent twice: {head}"
            length = 0 if of_head else int(headers.get("content-length", 0))
            return Answer(int(line.split()[1]), headers, await self._reader.readexactly(length))

    def reset(self) -> None:
        """Leave at once; a mere close may be one of a client that waits for its answer."""
        client = self.writer.get_extra_info("socket")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def line(self) -> bytes:
        """Read one line, such as that of an interim response."""
        async with asyncio.timeout(ANSWER_SECONDS):
            return await self._reader.readline()

    async def rest(self) -> bytes:
        """Read until the server closes the connection."""
        async with asyncio.timeout(ANSWER_SECONDS):
            try:
                return await self._reader.read()
            except ConnectionError:
                return b""


@contextlib.asynccontextmanager
async def connect(base_url: str) -> AsyncIterator[RawConnection]:
    """A connection to a server under test."""
    address = urlsplit(base_url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        yield RawConnection(reader, writer)
    finally:
        writer.transport.abort()


def head(key: str | None, method: str = "POST", path: str = EVENTS, **headers: object) -> bytes:
    """A request line and headers; ``_`` in a name is ``-``, None leaves a header out."""
    given = {"Host": "test", "Content-Type": "application/json"}
    if key is not None:
        given["Authorization"] = f"Bearer {key}"
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{n}: {v}" for n, v in {**given, **named}.items() if v is not None]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode("latin-1")


def post(key: str | None, body: bytes, path: str = EVENTS, **headers: object) -> bytes:
    """A whole POST request with a truthful length."""
    return head(key, "POST", path, **{"Content_Length": len(body), **headers}) + body


def chunked(*pieces: bytes) -> bytes:
    """A body in chunks, with its end."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (*pieces, b""))


async def ask(base_url: str, request: bytes) -> Answer:
    """Send one request on a connection of its own."""
    async with connect(base_url) as connection:
        await connection.send(request)
        return await connection.answer()
