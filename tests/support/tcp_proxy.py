"""A TCP proxy that tests cut, hold and reopen: the network between a client and the service."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Final, Self

_PIECE_BYTES: Final = 16_384


class TcpProxy:
    """Forwards a free port of the loopback to ``target``; an async context manager.

    ``cut_after``: asked for every connection how many bytes from the client it forwards before it
    is cut; None is never.
    """

    def __init__(self, target: str, cut_after: Callable[[], int | None] = lambda: None) -> None:
        self.lead_to(target)
        self._cut_after = cut_after
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._answers = asyncio.Event()
        self._answers.set()
        self.connections = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self._answers.set()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def lead_to(self, target: str) -> None:
        """Forward the connections that come from now on to another target."""
        self._host, _, port = target.rpartition(":")
        self._port = int(port)

    def cut(self) -> None:
        """Reset every connection."""
        for writer in list(self._writers):
            writer.transport.abort()

    @contextlib.contextmanager
    def holding_answers(self) -> Iterator[None]:
        """Within the block, what the server sends is held back."""
        self._answers.clear()
        try:
            yield
        finally:
            self._answers.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        others: asyncio.StreamWriter | None = None
        try:
            answers, others = await asyncio.open_connection(self._host, self._port)
            self._writers.add(others)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._forward(reader, others, left=self._cut_after()))
                both.create_task(self._forward(answers, writer, self._answers))
        except* (OSError, _Cut):
            pass
        finally:
            writer.transport.abort()
            self._writers.discard(writer)
            if others is not None:
                others.close()  # what was forwarded arrives
                self._writers.discard(others)
            self._tasks.discard(task)

    async def _forward(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        gate: asyncio.Event | None = None,
        left: int | None = None,
    ) -> None:
        while data := await source.read(_PIECE_BYTES):
            if gate is not None:
                await gate.wait()
            sink.write(data if left is None else data[:left])
            await sink.drain()
            if left is not None:
                left -= len(data)
                if left <= 0:
                    raise _Cut
        raise _Cut


class _Cut(Exception):
    """A direction has ended, and the other ends with it."""
