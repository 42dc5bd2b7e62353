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
    """The messages of a call as they arrive: :meth:`start`, :meth:`next`, :meth:`stop`.

    A slot is taken before each is read, to be given back by who took the message.
    """

    def __init__(self, context: Context, slots: asyncio.Semaphore) -> None:
        self._context = context
        self._slots = slots
        self._arrived: asyncio.Queue[Any] = asyncio.Queue()  # with what ended the reading
        self._bytes = 0
        self._has_room = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._is_in_library = False
        self.is_stopped = False  # for good

    def start(self) -> None:
        """Read until the client half-closes, or there is a message that cannot be taken."""
        self._task = asyncio.create_task(self._read())

    def stop(self) -> None:
        """Read no more, and drop what was read ahead; nobody waits for a message any more.

        A read that has begun ends with the call, or with its message. The library never frees the
        message of a read that is cancelled.
        """
        self.is_stopped = True
        self._arrived = asyncio.Queue()
        if self._task is not None and not self._is_in_library:
            self._task.cancel()

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

    async def _read(self) -> None:
        message: Any = None
        while message is None or isinstance(message, Received):
            while self._bytes >= READ_AHEAD_BYTES:
                self._has_room.clear()
                await self._has_room.wait()
            await self._slots.acquire()
            message = await self._read_one()
            if self.is_stopped:
                return
            self._bytes += _size(message)
            self._arrived.put_nowait(message)

    async def _read_one(self) -> Any:
        self._is_in_library = True
        try:
            return await self._context.read()
        except (Exception, asyncio.CancelledError) as error:
            # Its traceback holds what was read ahead, which would stay for the collector.
            return error.with_traceback(None)
        finally:
            self._is_in_library = False


def _size(message: Any) -> int:
    return len(message.data) if isinstance(message, Received) else 0
