"""Calls that need no key: they are few at a time, short, and the newest is always served."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc

from grpc_api.accepting import Context


class OpenCalls:
    """At most ``most`` calls, each for ``seconds``; the oldest one ends for one too many.

    A stranger who holds all of them is replaced by whoever comes next.
    """

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        self._deadlines: dict[asyncio.Timeout, None] = {}  # oldest first

    @contextlib.asynccontextmanager
    async def place(self, context: Context) -> AsyncIterator[None]:
        """Serve a call in the block; ends the call with UNAVAILABLE when it must end."""
        deadline = asyncio.timeout(self._seconds)
        try:
            async with deadline:
                self._make_room()
                self._deadlines[deadline] = None
                try:
                    yield
                finally:
                    self._deadlines.pop(deadline, None)
        except TimeoutError:
            if not deadline.expired():
                raise
            await context.abort(grpc.StatusCode.UNAVAILABLE, "This call was open for too long.")

    def _make_room(self) -> None:
        if len(self._deadlines) >= self._most:
            oldest = next(iter(self._deadlines))
            del self._deadlines[oldest]
            oldest.reschedule(asyncio.get_running_loop().time())


async def read_message(context: Context) -> object:
    """The next message of a call that is served as a stream; None if there is none.

    The read goes on if its caller is cancelled, and ends with the call: the library never frees the
    message of a read that is cancelled.
    """
    message: object = await asyncio.shield(asyncio.ensure_future(context.read()))
    return None if message is grpc.aio.EOF else message


async def read_messages(context: Context) -> AsyncIterator[Any]:
    """The messages of a call, each as :func:`read_message`."""
    while (message := await read_message(context)) is not None:
        yield message
