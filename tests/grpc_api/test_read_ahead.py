"""Messages of a stream that are read before their turn."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import AsyncIterator, Iterable
from typing import Any, cast

import grpc
import pytest

from core.error_codes import ErrorCode
from core.errors import IngestError
from grpc_api.accepting import Context
from grpc_api.call import Received
from grpc_api.pb import ingest_pb2 as pb
from grpc_api.read_ahead import READ_AHEAD_BYTES, ReadAhead
from tests.support.waiting import turns

pytestmark = pytest.mark.anyio

SLOTS = 32
TOO_LARGE = IngestError(ErrorCode.BATCH_TOO_LARGE, "too large")


class Arriving:
    """What of a call reads its messages: all of them are there, and the next comes at the end."""

    def __init__(self, messages: Iterable[Any]) -> None:
        self._messages = iter(messages)
        self._last: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.read_messages = 0
        self.was_cancelled = False

    async def read(self) -> Any:
        await asyncio.sleep(0)
        self.read_messages += 1
        message = next(self._messages, None)
        if message is None:
            try:
                return await self._last
            except asyncio.CancelledError:
                self.was_cancelled = True
                raise
        if isinstance(message, BaseException) and message is not TOO_LARGE:
            raise message
        return message

    def end(self, message: object = grpc.aio.EOF) -> None:
        """Let the call end, or a last message come."""
        if not self._last.done():
            self._last.set_result(message)


def of_size(size: int) -> Received:
    return Received(pb.StreamEventsRequest, bytes(size))


@contextlib.asynccontextmanager
async def reading(call: Arriving, slots: asyncio.Semaphore) -> AsyncIterator[ReadAhead]:
    messages = ReadAhead(cast(Context, call), slots)
    messages.start()
    try:
        await turns(10 * SLOTS)
        yield messages
    finally:
        messages.stop()
        call.end()


async def test_messages_are_read_up_to_a_bound_and_the_one_that_passes_it() -> None:
    half = READ_AHEAD_BYTES // 2 + 1
    call = Arriving([of_size(half)] * 9)
    async with reading(call, asyncio.Semaphore(SLOTS)) as messages:
        assert call.read_messages == 2
        for taken in range(1, 5):
            await messages.next()
            await turns(10)
            assert call.read_messages == 2 + taken


async def test_no_message_is_read_without_a_slot() -> None:
    call = Arriving([of_size(1)] * (SLOTS + 9))
    slots = asyncio.Semaphore(SLOTS)
    async with reading(call, slots) as messages:
        assert call.read_messages == SLOTS
        await messages.next()
        await turns(10)
        assert call.read_messages == SLOTS  # taken, and yet to be acked
        slots.release()
        await turns(10)
        assert call.read_messages == SLOTS + 1


@pytest.mark.parametrize("last", [grpc.aio.EOF, TOO_LARGE])
async def test_nothing_is_read_after_the_end_or_a_message_that_is_refused(last: Any) -> None:
    first = of_size(1)
    call = Arriving([first, last, of_size(1)])
    async with reading(call, asyncio.Semaphore(SLOTS)) as messages:
        assert await messages.next() is first
        assert await messages.next() is last
        assert call.read_messages == 2


@pytest.mark.parametrize(
    "error", [grpc.aio.UsageError("the call is over"), asyncio.CancelledError()]
)
async def test_what_ends_the_reading_is_raised_behind_what_came_before(
    error: BaseException,
) -> None:
    first = of_size(1)
    async with reading(Arriving([first, error]), asyncio.Semaphore(SLOTS)) as messages:
        assert await messages.next() is first
        with pytest.raises(type(error)):
            await messages.next()


@pytest.mark.parametrize("error", [grpc.aio.UsageError("the call is over"), None])
async def test_what_was_read_ahead_goes_with_a_stream_that_ends(
    error: BaseException | None, uncollected: None
) -> None:
    call = Arriving([of_size(1), error])
    messages = ReadAhead(cast(Context, call), asyncio.Semaphore(SLOTS))
    messages.start()
    await turns(10)
    messages.stop()
    call.end()
    await turns(10)
    gone = weakref.ref(messages)
    del messages
    await turns(2)
    assert gone() is None


async def test_a_read_that_has_begun_is_never_cancelled() -> None:
    """The library would keep its message for ever."""
    call = Arriving([of_size(1)])
    async with reading(call, asyncio.Semaphore(SLOTS)) as messages:
        messages.stop()
        await turns(10)
        assert not call.was_cancelled
        call.end(of_size(1))
        await turns(10)
    assert (call.read_messages, call.was_cancelled) == (2, False)


async def test_nothing_is_read_after_the_stop() -> None:
    call = Arriving([of_size(READ_AHEAD_BYTES), *[of_size(1)] * 9])
    async with reading(call, asyncio.Semaphore(SLOTS)) as messages:
        await messages.next()
        messages.stop()
        await turns(10)
        assert call.read_messages <= 2
