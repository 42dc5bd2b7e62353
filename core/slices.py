"""Long work in slices, between which others have their turn of the event loop.

Such work is a generator that yields after each slice. It can be done at once, too: of what is
small, or where nothing else may happen in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager
from typing import Final, Protocol, TypeVar

T = TypeVar("T")

# The JSON that is read in one slice: the worst takes 25 ms (tests/http_api/test_worst_bodies.py).
SLICE_BYTES: Final = 65_536
MIN_UNCOLLECTED_BYTES: Final = 8_192

_LEFT_ALONE: Final = contextlib.nullcontext()

Sliced = Generator[None, None, T]


class InTurns(Protocol):
    """Does work with turns of the event loop for others after each slice."""

    async def __call__(self, work: Sliced[T], /) -> T:
        """Do all of it, and return its result."""


@contextlib.contextmanager
def _paused() -> Iterator[None]:
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def uncollected(size: int) -> AbstractContextManager[None]:
    """Keep the collector of garbage from a slice whose values are gone at its end.

    It would look for cycles among ten thousand lists again and again. Of ``size`` bytes; a small
    slice is left alone.
    """
    large = size >= MIN_UNCOLLECTED_BYTES and gc.isenabled()
    return _paused() if large else _LEFT_ALONE


def at_once(work: Sliced[T]) -> T:
    """Do all of the work now."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: T = end.value
            return result


async def in_turns(work: Sliced[T]) -> T:
    """Do the work with a turn of the event loop for others after each slice."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: T = end.value
            return result
        await asyncio.sleep(0)
