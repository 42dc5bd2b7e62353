"""Token buckets in memory that server processes share, so that a limit holds for all together.

A client's connections can end at any of the processes. If each process had a share of the limit, a
client with one connection would get less than its due; if each had the whole limit, a client with
many connections would get more.
"""

from __future__ import annotations

import fcntl
import time
from contextlib import AbstractContextManager
from mmap import mmap
from typing import Final
from uuid import UUID

from core.access.rate_limits import BURST_SECONDS, refilled

# As in a set-associative cache: an owner's id selects a set, and its bucket is in one of the ways.
WAYS: Final = 8
SETS: Final = 16_384
MAX_LOCK_ATTEMPTS: Final = 100
LOCK_PAUSE_SECONDS: Final = 0.000_05

# A bucket: its owner's 16 bytes, then two doubles: the tokens, and when they were updated.
_OWNER_BYTES: Final = 16
_BUCKET_BYTES: Final = 32
_DOUBLE_BYTES: Final = 8
_SET_BYTES: Final = WAYS * _BUCKET_BYTES
BYTES: Final = SETS * _SET_BYTES


class SharedBuckets(AbstractContextManager[None]):
    """``Buckets`` in ``BYTES`` of memory from ``begin``, under a lock on the file behind it.

    The kernel releases the lock when a process dies. A process that is stopped while it holds the
    lock does not stop the others: they wait for at most ``MAX_LOCK_ATTEMPTS`` pauses and go on
    without the lock, which at worst miscounts the requests of that moment. If all ways of a set are
    taken, the bucket that was unused for longest makes room; it would be full after a second.
    """

    def __init__(self, memory: mmap, begin: int, descriptor: int) -> None:
        self._memory = memory
        self._doubles = memoryview(memory)[: begin + BYTES].cast("d")
        self._begin = begin
        self._descriptor = descriptor
        self._locked = False
        # Where the tokens are of the buckets filled in this block, as indexes into the doubles.
        self._token_indexes: dict[UUID, int] = {}

    def exclusive(self) -> AbstractContextManager[object]:
        """As ``Buckets.exclusive``, but for a process that holds the lock for too long."""
        return self

    def __enter__(self) -> None:
        self._token_indexes.clear()
        for _ in range(MAX_LOCK_ATTEMPTS):
            try:
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
            except (BlockingIOError, PermissionError):  # one or the other, by the system
                time.sleep(LOCK_PAUSE_SECONDS)
            else:
                self._locked = True
                return

    def __exit__(self, *_: object) -> None:
        if self._locked:
            self._locked = False
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1)

    def fill(self, owner: UUID, rate: int, now: float) -> float:
        """As ``Buckets.fill``."""
        begin = self._begin + hash(owner) % SETS * _SET_BYTES
        found = self._memory.find(owner.bytes, begin, begin + _SET_BYTES)
        doubles = self._doubles
        if found >= 0 and not (found - begin) % _BUCKET_BYTES:
            index = (found + _OWNER_BYTES) // _DOUBLE_BYTES
            tokens = refilled(doubles[index], doubles[index + 1], rate, now)
        else:
            index = self._longest_unused(begin)
            owner_at = index * _DOUBLE_BYTES - _OWNER_BYTES
            self._memory[owner_at : owner_at + _OWNER_BYTES] = owner.bytes
            tokens = rate * BURST_SECONDS
        doubles[index] = tokens
        doubles[index + 1] = now
        self._token_indexes[owner] = index
        return tokens

    def take(self, owner: UUID) -> None:
        """As ``Buckets.take``."""
        self._doubles[self._token_indexes[owner]] -= 1

    def put(self, owner: UUID, tokens: float) -> None:
        """As ``Buckets.put``."""
        self._doubles[self._token_indexes[owner]] = tokens

    def _longest_unused(self, begin: int) -> int:
        first = (begin + _OWNER_BYTES) // _DOUBLE_BYTES
        step = _BUCKET_BYTES // _DOUBLE_BYTES
        indexes = range(first, first + WAYS * step, step)
        return min(indexes, key=lambda index: self._doubles[index + 1])
