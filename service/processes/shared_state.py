"""The state that a supervisor and its server processes share, in one piece of memory.

The supervisor allocates the memory and the server processes map it. It holds which process slots
are ready, which process each has, how often it was given a new one, and the rate buckets. A service
of a single process has a state of its own.
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

# A load balancer gives every host as much, so below this share of ready processes it should choose
# another. Above it, the kernel gives new connections to the processes that are ready, and to take
# the whole host away would do more harm than the death of one process.
MIN_READY_SHARE: Final = 0.5

_CELL_BYTES: Final = 8
_STATE_CELLS: Final = 3  # first those of the service, then those of each process slot


class _ServiceCell(IntEnum):
    STARTED = 0
    DRAINING = 1


class _SlotCell(IntEnum):
    READY = 0
    RESTARTS = 1
    PROCESS_ID = 2


class SharedState:
    """The state of ``size`` server processes, each in a process slot numbered from 0.

    ``descriptor`` is the shared memory of :meth:`share`; without one the state is this process's.
    """

    def __init__(self, size: int, descriptor: int = -1) -> None:
        self.size = size
        self.descriptor = descriptor
        buckets_at = _bytes(size)
        shared = descriptor >= 0
        memory = mmap.mmap(descriptor, buckets_at + BUCKET_BYTES * shared)
        self._cells = memoryview(memory)[:buckets_at].cast("d")
        self.buckets: Buckets = (
            SharedBuckets(memory, buckets_at, descriptor) if shared else OwnBuckets()
        )

    @classmethod
    def of_one(cls) -> SharedState:
        """The state of a service of a single process, which is ready."""
        state = cls(1)
        state.set_process_id(0, os.getpid())
        state.set_ready(0, True)
        state.start()
        return state

    @staticmethod
    def share(size: int) -> int:
        """Allocate the memory of a state and return its descriptor for server processes to inherit.

        The caller closes it. Raises OSError when there is no memory.
        """
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("wepeople-ingest", os.MFD_CLOEXEC)
        else:
            with tempfile.TemporaryFile() as file:
                descriptor = os.dup(file.fileno())
        os.ftruncate(descriptor, _bytes(size) + BUCKET_BYTES)
        return descriptor

    # --- for the supervisor ----------------------------------------------------------------------

    def start(self) -> None:
        """Note that all processes have been ready once."""
        self._cells[_ServiceCell.STARTED] = 1

    def drain(self) -> None:
        """Note that no process takes new work."""
        self._cells[_ServiceCell.DRAINING] = 1

    def set_ready(self, slot: int, ready: bool) -> None:
        """Note whether the process of a slot accepts traffic."""
        self._cells[_cell(slot, _SlotCell.READY)] = ready

    def set_process_id(self, slot: int, process_id: int) -> None:
        """Note which process is in a slot."""
        self._cells[_cell(slot, _SlotCell.PROCESS_ID)] = process_id

    def count_restart(self, slot: int) -> None:
        """Note that the process of a slot has ended and another replaces it."""
        self._cells[_cell(slot, _SlotCell.RESTARTS)] += 1

    # --- for every process -----------------------------------------------------------------------

    def ready(self) -> int:
        """The number of processes that accept traffic."""
        return sum(bool(self._cells[_cell(slot, _SlotCell.READY)]) for slot in range(self.size))

    def process_ids(self) -> list[tuple[int, int]]:
        """Each slot with the id of its latest process, which may have ended."""
        ids = (
            (slot, int(self._cells[_cell(slot, _SlotCell.PROCESS_ID)])) for slot in range(self.size)
        )
        return [(slot, process_id) for slot, process_id in ids if process_id]

    def restarts(self) -> int:
        """The number of processes that were replaced."""
        return sum(int(self._cells[_cell(slot, _SlotCell.RESTARTS)]) for slot in range(self.size))

    def problem(self) -> str | None:
        """The reason why the whole service should get no traffic; None if it should."""
        if self._cells[_ServiceCell.DRAINING]:
            return "shutting down"
        ready = self.ready()
        wanted = (
            math.ceil(self.size * MIN_READY_SHARE)
            if self._cells[_ServiceCell.STARTED]
            else self.size
        )
        if ready < wanted:
            return f"{ready} of {self.size} server processes accept traffic"
        return None


def _bytes(size: int) -> int:
    return _STATE_CELLS * (size + 1) * _CELL_BYTES


def _cell(slot: int, of: _SlotCell) -> int:
    return _STATE_CELLS * (slot + 1) + of
