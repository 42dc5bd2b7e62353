"""The open streams of a process: draining them together, and one stream for each producer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple
from uuid import UUID

from core.error_codes import StreamReason
from core.errors import StreamError, unavailable

# Closing a connection while its client is sending resets it, and the client loses the answers it
# has not read, acks included. Within this time clients learn that their streams have ended, and
# stop sending.
LINGER_SECONDS: Final = 0.3

# A future that is done once the server wants a stream to end. The result is the reason.
EndRequest = asyncio.Future[BaseException]


class ProducerStream(NamedTuple):
    """The stream of a producer in this process. Later streams have higher epochs."""

    epoch: int
    end_request: EndRequest


class OpenStreams:
    """The streams of this process."""

    def __init__(self, max_seconds: float) -> None:
        self.max_seconds = max_seconds
        self._draining = False
        self._open: dict[object, Callable[[Exception], None]] = {}
        self._ended = asyncio.Event()
        self._producers: dict[tuple[UUID, str], ProducerStream] = {}

    @contextlib.contextmanager
    def open(self, end: Callable[[Exception], None]) -> Iterator[None]:
        """Count a stream as open during the block; ``end`` gets the reason if it has to end."""
        entry = object()
        self._open[entry] = end
        if self._draining:
            end(_shutting_down())
        try:
            yield
        finally:
            del self._open[entry]
            if not self._open:
                self._ended.set()

    async def drain(self, seconds: float) -> None:
        """Tell every stream to end, and wait up to ``seconds`` until all have ended.

        Then gives their clients :data:`LINGER_SECONDS` to read the answers.
        """
        self._draining = True
        if not self._open:
            return
        self._ended.clear()
        for end in self._open.values():
            end(_shutting_down())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ended.wait()
        await asyncio.sleep(LINGER_SECONDS)

    def take_over(self, app_id: UUID, producer_id: str, stream: ProducerStream) -> None:
        """Make this the producer's stream, and end its older stream in this process.

        The epochs decide which is older: two streams that open together may call this in another
        order than the database opened them in.
        """
        other = self._producers.get((app_id, producer_id))
        if other is not None and other.epoch > stream.epoch:
            older: ProducerStream | None = stream
        else:
            self._producers[app_id, producer_id] = stream
            older = other
        if older is not None and not older.end_request.done():
            older.end_request.set_result(
                StreamError(
                    StreamReason.PRODUCER_TAKEN_OVER,
                    f"Another stream was opened with producer_id '{producer_id}'.",
                )
            )

    def leave(self, app_id: UUID, producer_id: str, end_request: EndRequest) -> None:
        """Forget a stream that has ended; does nothing if another one has taken over."""
        present = self._producers.get((app_id, producer_id))
        if present is not None and present.end_request is end_request:
            del self._producers[app_id, producer_id]


def _shutting_down() -> Exception:
    return unavailable("The service is shutting down. Open again shortly.")
