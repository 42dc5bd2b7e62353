"""The shared_state: the workers that serve the same two ports together, and what they know of each other.

It is a piece of memory that the supervisor makes and its workers map: whether each worker is
ready, what each has counted (``core/counters.py``) and the rate buckets they share. A service without
workers is a shared_state of one, whose memory is its own.
"""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from enum import IntEnum
from typing import Final

from core.access.rate_limits import Buckets, OwnBuckets
from core.access.shared_buckets import BYTES as BUCKET_BYTES
from core.access.shared_buckets import SharedBuckets
from core.counters import CELLS, Counters

# With fewer ready than this share of the workers, a load balancer had better choose another host:
# it gives this one as much as the others. With more, the kernel gives new connections to those
# that are ready, and to take the whole host away would do more harm than the one worker's death.
MIN_READY_SHARE: Final = 0.5

_CELL_BYTES: Final = 8
_STATE_CELLS: Final = 3  # of the whole shared_state, then of each worker


class _Whole(IntEnum):
    STARTED = 0
    DRAINING = 1


class _Worker(IntEnum):
    READY = 0
    RESTARTS = 1


class SharedState:
    """``size`` workers, of which this process is number ``own``; the supervisor is none of them."""

    def __init__(self, size: int, descriptor: int = -1, own: int | None = None) -> None:
        self.size = size
        self.descriptor = descriptor
        self._states = _STATE_CELLS * (size + 1)
        meters = self._states + size * CELLS
        begin = meters * _CELL_BYTES  # of the buckets
        shared = descriptor >= 0
        memory = mmap.mmap(descriptor, begin + BUCKET_BYTES * shared)
        self._cells = memoryview(memory)[:begin].cast("d")
        self.buckets: Buckets = SharedBuckets(memory, begin, descriptor) if shared else OwnBuckets()
        self.counters = Counters() if own is None else self.meter_of(own)

    @classmethod
    def alone(cls) -> SharedState:
        """The shared_state of a service without workers."""
        shared_state = cls(1, own=0)
        shared_state.set_ready(0, True)
        shared_state.start()
        return shared_state

    @staticmethod
    def share(size: int) -> int:
        """The descriptor of new memory for a shared_state, which its workers inherit. The caller closes it.

        Raises OSError when there is no room for it.
        """
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("wepeople-ingest", os.MFD_CLOEXEC)
        else:
            with tempfile.TemporaryFile() as file:
                descriptor = os.dup(file.fileno())
        cells = _STATE_CELLS * (size + 1) + size * CELLS
        os.ftruncate(descriptor, cells * _CELL_BYTES + BUCKET_BYTES)
        return descriptor

    def meter_of(self, worker: int) -> Counters:
        """What a worker counts."""
        begin = self._states + worker * CELLS
        return Counters(self._cells[begin : begin + CELLS])

    # --- what the supervisor tells ---------------------------------------------------------------

    def start(self) -> None:
        """All have been ready once."""
        self._cells[_Whole.STARTED] = 1

    def drain(self) -> None:
        """The shared_state takes no new work."""
        self._cells[_Whole.DRAINING] = 1

    def set_ready(self, worker: int, ready: bool) -> None:
        """Whether a worker accepts traffic."""
        self._cells[self._state(worker) + _Worker.READY] = ready

    def count_restart(self, worker: int) -> None:
        """A worker has ended and another takes its place."""
        self._cells[self._state(worker) + _Worker.RESTARTS] += 1
        self.meter_of(worker).begin()

    def _state(self, worker: int) -> int:
        return _STATE_CELLS * (worker + 1)

    # --- what everybody reads --------------------------------------------------------------------

    def ready(self) -> int:
        """How many accept traffic."""
        return sum(
            bool(self._cells[self._state(worker) + _Worker.READY]) for worker in range(self.size)
        )

    def restarts(self) -> int:
        """How many workers had to be replaced."""
        return sum(
            int(self._cells[self._state(worker) + _Worker.RESTARTS]) for worker in range(self.size)
        )

    def problem(self) -> str | None:
        """Why the shared_state as a whole should get no traffic; None if it should."""
        if self._cells[_Whole.DRAINING]:
            return "shutting down"
        ready = self.ready()
        wanted = (
            math.ceil(self.size * MIN_READY_SHARE) if self._cells[_Whole.STARTED] else self.size
        )
        if ready < wanted:
            return f"{ready} of {self.size} workers accept traffic"
        return None

    def totals(self) -> list[float]:
        """The counts of all, added up."""
        each = [self.meter_of(number).cells() for number in range(self.size)]
        return [sum(cells) for cells in zip(*each, strict=True)]
