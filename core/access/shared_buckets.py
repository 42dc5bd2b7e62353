"""Token buckets in memory that several processes share, so that a limit holds for all together.

A client's connections may end at any of the processes: divided among them, a limit would refuse
the client that has one connection, and counted by each, it would let a client with many have more.
"""

from __future__ import annotations

import fcntl
import time
from contextlib import AbstractContextManager
from mmap import mmap
from typing import Final
from uuid import UUID

from core.access.rate_limits import BURST_SECONDS, refilled

WAYS: Final = 8  # places a bucket can have
SETS: Final = 16_384  # of so many places, a power of two
MAX_LOCK_ATTEMPTS: Final = 100
LOCK_PAUSE_SECONDS: Final = 0.000_05

# A bucket: its owner's 16 bytes, then the tokens and when they were updated, as two doubles.
_OWNER_BYTES: Final = 16
_BUCKET_BYTES: Final = 32
_NUMBER_BYTES: Final = 8
_SET_BYTES: Final = WAYS * _BUCKET_BYTES
BYTES: Final = SETS * _SET_BYTES


class SharedBuckets(AbstractContextManager[None]):
    """``Buckets`` in ``BYTES`` of memory from ``begin``, under a lock on the file behind it.

    The kernel gives the lock back when a process dies. One that is stopped while it holds the lock
    must not stop the others: they wait for milliseconds and go on without, which at worst miscounts
    the requests of that moment. Where all places of a bucket are taken, the one that was touched
    least lately is forgotten; it is full again after a second.
    """

    def __init__(self, memory: mmap, begin: int, descriptor: int) -> None:
        self._memory = memory
        self._numbers = memoryview(memory)[: begin + BYTES].cast("d")
        self._begin = begin
        self._descriptor = descriptor
        self._locked = False
        self._places: dict[UUID, int] = {}  # of the tokens in use since the lock was taken

    def held(self) -> AbstractContextManager[object]:
        """Have the buckets to oneself, as far as can be had without waiting for long."""
        return self

    def __enter__(self) -> None:
        self._places.clear()
        for _ in range(MAX_LOCK_ATTEMPTS):
            try:
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
            except (BlockingIOError, PermissionError):  # which of the two depends on the system
                time.sleep(LOCK_PAUSE_SECONDS)
            else:
                self._locked = True
                return

    def __exit__(self, *_: object) -> None:
        if self._locked:
            self._locked = False
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1)

    def fill(self, owner: UUID, rate: int, now: float) -> float:
        """See ``Buckets.fill``."""
        name = owner.bytes
        begin = self._begin + hash(owner) % SETS * _SET_BYTES
        place = self._memory.find(name, begin, begin + _SET_BYTES)
        numbers = self._numbers
        if place >= 0 and not (place - begin) % _BUCKET_BYTES:
            tokens_at = (place + _OWNER_BYTES) // _NUMBER_BYTES
            tokens = refilled(numbers[tokens_at], numbers[tokens_at + 1], rate, now)
        else:
            tokens_at = self._oldest(begin)
            place = tokens_at * _NUMBER_BYTES - _OWNER_BYTES
            self._memory[place : place + _OWNER_BYTES] = name
            tokens = rate * BURST_SECONDS
        numbers[tokens_at] = tokens
        numbers[tokens_at + 1] = now
        self._places[owner] = tokens_at
        return tokens

    def take(self, owner: UUID) -> None:
        """See ``Buckets.take``."""
        self._numbers[self._places[owner]] -= 1

    def _oldest(self, begin: int) -> int:
        first = (begin + _OWNER_BYTES) // _NUMBER_BYTES
        step = _BUCKET_BYTES // _NUMBER_BYTES
        places = range(first, first + WAYS * step, step)
        return min(places, key=lambda place: self._numbers[place + 1])
