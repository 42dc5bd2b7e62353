"""The open streams of a process, as far as they have to do with each other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Final, NamedTuple
from uuid import UUID

from core.error_codes import StreamReason
from core.errors import StreamError
from grpc_api.room import Room

# A connection that is closed while its client is sending is reset, and what it was told last, acks
# among it, is lost. In this time clients read that their streams have ended, and stop sending.
LINGER_SECONDS: Final = 0.3

# Done when a stream must end although its client would go on; the result is why.
Ending = asyncio.Future[Exception]


class Holder(NamedTuple):
    """The stream that writes for a producer in this process."""

    epoch: int
    ending: Ending


class OpenStreams:
    """The streams of this process: what they share, take from each other, and end by together.

    ``room`` is a place for a batch on its way to the disk.
    """

    def __init__(self, max_seconds: float) -> None:
        self.max_seconds = max_seconds
        self.draining = asyncio.Event()
        self.room = Room()
        self._count = 0
        self._ended = asyncio.Event()
        self._producers: dict[tuple[UUID, str], Holder] = {}

    @contextlib.contextmanager
    def one_more(self) -> Iterator[None]:
        """Count a stream while its call is served."""
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1
            if not self._count:
                self._ended.set()

    async def drain(self, seconds: float) -> None:
        """Tell every stream to finish what it has read, and wait until their clients know."""
        self.draining.set()
        if not self._count:
            return
        self._ended.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ended.wait()
        await asyncio.sleep(LINGER_SECONDS)

    def take_over(self, app_id: UUID, producer_id: str, holder: Holder) -> None:
        """Make this the producer's stream; an older one in this process ends at once.

        By epoch, which is the order the database opened them in: two that open together may come
        here in the other order.
        """
        other = self._producers.get((app_id, producer_id))
        if other is not None and other.epoch > holder.epoch:
            older: Holder | None = holder
        else:
            self._producers[app_id, producer_id] = holder
            older = other
        if older is not None and not older.ending.done():
            older.ending.set_result(
                StreamError(
                    StreamReason.PRODUCER_TAKEN_OVER,
                    f"Another stream was opened with producer_id '{producer_id}'.",
                )
            )

    def leave(self, app_id: UUID, producer_id: str, ending: Ending) -> None:
        """Forget a stream that has ended."""
        held = self._producers.get((app_id, producer_id))
        if held is not None and held.ending is ending:
            del self._producers[app_id, producer_id]
