"""An HTTP proxy that fails as it is told, between a client and the service."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final, Self

from tests.support.raw_http import Answer, connect

TRICKLE_SECONDS: Final = 0.05


class Fault(Enum):
    """What happens to a request in place of being forwarded and answered."""

    CUT = auto()  # the connection is reset, the service sees nothing
    LOSE_ANSWER = auto()  # the service answers, the connection is reset
    SILENCE = auto()  # nothing, until the client goes
    TRICKLE = auto()  # an answer that comes slowly and never ends, until the client goes


@dataclass(frozen=True)
class Received:
    """A request as it came; header names in lower case."""

    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)

    @property
    def idempotency_key(self) -> str:
        """Its Idempotency-Key."""
        return self.headers["idempotency-key"]


def answer(status: int, body: bytes = b"", **headers: str) -> Answer:
    """An answer for a script; ``_`` in a header's name is ``-``."""
    return Answer(status, {name.replace("_", "-"): text for name, text in headers.items()}, body)


class HttpProxy:
    """Forwards requests to the service at ``target``, a URL; an async context manager.

    Each item of the script is used up by one request: an answer of the proxy's own, a fault, or
    None to forward it. Without one left, requests are forwarded. With ``tls``, the proxy's own
    side is encrypted.
    """

    def __init__(
        self,
        target: str,
        script: Iterable[Answer | Fault | None] = (),
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._target = target
        self._script = iter(script)
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()
        self.received: list[Received] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        scheme = "http" if self._tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while await self._handle(reader, writer):
                    pass
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serve one request. Returns whether the connection goes on."""
        head = await reader.readuntil(b"\r\n\r\n")
        line, *fields = head.decode("latin-1").rstrip().split("\r\n")
        pairs = (field.split(": ", 1) for field in fields)
        headers = {name.lower(): value for name, value in pairs}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.received.append(Received(line, headers, body))
        act = next(self._script, None)
        if act is Fault.CUT:
            return False
        if act is Fault.SILENCE:
            await reader.read()
            return False
        if act is Fault.TRICKLE:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(TRICKLE_SECONDS)
        reply = act if isinstance(act, Answer) else await self._forward(head + body)
        if act is Fault.LOSE_ANSWER:
            return False
        writer.write(_render(reply))
        await writer.drain()
        return True

    async def _forward(self, request: bytes) -> Answer:
        async with connect(self._target) as connection:
            await connection.send(request)
            return await connection.answer()


def _render(reply: Answer) -> bytes:
    fields = {**reply.headers, "content-length": str(len(reply.body))}
    lines = [f"HTTP/1.1 {reply.status} Status", *(f"{n}: {v}" for n, v in fields.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1") + reply.body
