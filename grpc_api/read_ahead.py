"""Messages of a stream that are read before their turn, within a bound.

HTTP/2 flow control holds a message to its first part until it is read (grpc_api/call.py). So a
stream whose messages were read one by one would pause for a round trip before each large one.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from core.errors import IngestError
from grpc_api.accepting import Context
from grpc_api.call import Received

# Of one stream, and one message more. It is some two batches of 500 usual events.
READ_AHEAD_BYTES: Final = 131_072


class ReadAhead:
    """The messages of a call as they arrive: :meth:`run` reads them, :meth:`next` takes them.

    A slot is taken before each is read, to be given back by who took the message.
    """

    def __init__(self, context: Context, slots: asyncio.Semaphore) -> None:
        self._context = context
        self._slots = slots
        self._arrived: asyncio.Queue[Any] = asyncio.Queue()  # with what ended the reading
        self._bytes = 0
        self._has_room = asyncio.Event()

    async def run(self) -> None:
        """Read until the client half-closes, or there is a message that cannot be taken."""
        message: Any = None
        while message is None or isinstance(message, Received):
            while self._bytes >= READ_AHEAD_BYTES:
                self._has_room.clear()
                await self._has_room.wait()
            await self._slots.acquire()
            try:
                message = await self._context.read()
            except (Exception, asyncio.CancelledError) as error:
                # Its traceback holds what was read ahead, which would stay for the collector.
                message = error.with_traceback(None)
            self._bytes += _size(message)
            self._arrived.put_nowait(message)

    async def next(self) -> Received | IngestError | Any:
        """The next message, an error that refuses it, or the library's EOF.

        Raises what the library raised while it was read.
        """
        message = await self._arrived.get()
        self._bytes -= _size(message)
        self._has_room.set()
        if not isinstance(message, BaseException) or isinstance(message, IngestError):
            return message
        try:
            raise message
        finally:
            del message


def _size(message: Any) -> int:
    return len(message.data) if isinstance(message, Received) else 0
