"""Token buckets in memory that several processes share, so that a limit holds for all together.

A client's connections may end at any of the processes: divided among them, a limit would refuse
the client that has one connection, and counted by each, it would let a client with many have more.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from struct import Struct
from typing import Final
from uuid import UUID

from core.ratelimit import BURST_SECONDS, refilled

WAYS: Final = 8  # places a bucket can have
SETS: Final = 16_384  # of so many places, a power of two
MAX_LOCK_ATTEMPTS: Final = 100
LOCK_PAUSE_SECONDS: Final = 0.000_05

_BUCKET: Final = Struct("=16sdd")  # owner, tokens, when updated
_TOKENS: Final = Struct("=dd")
_OWNER_BYTES: Final = 16
_SET_BYTES: Final = WAYS * _BUCKET.size
BYTES: Final = SETS * _SET_BYTES


class SharedBuckets:
    """``Buckets`` in ``BYTES`` of memory, under a lock on the file behind it.

    The kernel gives the lock back when a process dies. One that is stopped while it holds the lock
    must not stop the others: they wait for milliseconds and go on without, which at worst miscounts
    the requests of that moment. Where all places of a bucket are taken, the one that was touched
    least lately is forgotten; it is full again after a second.
    """

    def __init__(self, memory: memoryview, descriptor: int) -> None:
        self._memory = memory
        self._descriptor = descriptor
        self._places: dict[UUID, int] = {}  # of the buckets in use since the lock was taken

    def held(self) -> AbstractContextManager[object]:
        """Have the buckets to oneself, as far as can be had without waiting for long."""
        return self._lock()

    @contextmanager
    def _lock(self) -> Iterator[None]:
        locked = self._locked()
        self._places.clear()
        try:
            yield
        finally:
            if locked:
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1)

    def _locked(self) -> bool:
        for _ in range(MAX_LOCK_ATTEMPTS):
            with suppress(BlockingIOError, PermissionError):
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
                return True
            time.sleep(LOCK_PAUSE_SECONDS)
        return False

    def fill(self, owner: UUID, rate: int, now: float) -> float:
        """As ``Buckets.fill``."""
        name = owner.bytes
        oldest, place = now, -1
        begin = hash(owner) % SETS * _SET_BYTES
        for candidate in range(begin, begin + _SET_BYTES, _BUCKET.size):
            whose, tokens, updated = _BUCKET.unpack_from(self._memory, candidate)
            if whose == name:
                tokens = refilled(tokens, updated, rate, now)
                place = candidate
                break
            if place < 0 or updated < oldest:
                oldest, place = updated, candidate
        else:
            tokens = rate * BURST_SECONDS
        _BUCKET.pack_into(self._memory, place, name, tokens, now)
        self._places[owner] = place
        return float(tokens)

    def take(self, owner: UUID) -> None:
        """As ``Buckets.take``."""
        place = self._places[owner] + _OWNER_BYTES
        tokens, updated = _TOKENS.unpack_from(self._memory, place)
        _TOKENS.pack_into(self._memory, place, tokens - 1, updated)
