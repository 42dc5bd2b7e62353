"""Token buckets in shared memory: those of one process, for all of them."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from mmap import mmap
from types import SimpleNamespace
from typing import NamedTuple
from uuid import UUID

import pytest

from core.access import shared_buckets
from core.access.rate_limits import OwnBuckets
from core.access.shared_buckets import BYTES, MAX_LOCK_ATTEMPTS, SETS, WAYS, SharedBuckets

RATE = 10
BEGIN = 64  # after what else is in the memory


class Memory(NamedTuple):
    """Memory that several processes can map, and the file behind it."""

    memory: mmap
    descriptor: int

    def buckets(self) -> SharedBuckets:
        """The buckets as one of the processes has them."""
        return SharedBuckets(self.memory, BEGIN, self.descriptor)


@pytest.fixture
def shared_memory() -> Iterator[Memory]:
    with tempfile.TemporaryFile() as file:
        file.truncate(BEGIN + BYTES)
        yield Memory(mmap(file.fileno(), BEGIN + BYTES), file.fileno())


def test_buckets_are_the_same_for_all_processes(shared_memory: Memory) -> None:
    processes = [shared_memory.buckets() for _ in range(3)]
    own, owner = OwnBuckets(), UUID(int=5)
    for step, now in enumerate((100.0, 100.0, 100.05, 100.3, 102.0, 102.01)):
        buckets = processes[step % len(processes)]
        with buckets.exclusive():
            assert buckets.fill(owner, RATE, now) == pytest.approx(own.fill(owner, RATE, now))
            buckets.take(owner)
            own.take(owner)


class Holder:
    """Another process, inside a block of :meth:`SharedBuckets.exclusive`."""

    def __init__(self, descriptor: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(BEGIN + BYTES), str(BEGIN), str(descriptor)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[descriptor],
            text=True,
        )
        self._says("held")

    def leave(self) -> None:
        """Leave the block, and live on."""
        self._tell()
        self._says("left")

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _tell(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def _says(self, word: str) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline().strip() == word


HOLDER = """
import sys
from mmap import mmap
from core.access.shared_buckets import SharedBuckets
size, begin, descriptor = map(int, sys.argv[1:])
memory = mmap(descriptor, size)  # the lock would go with it, as with any descriptor of the file
with SharedBuckets(memory, begin, descriptor).exclusive():
    print("held", flush=True)
    sys.stdin.readline()
print("left", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def holder(shared_memory: Memory) -> Iterator[Holder]:
    holder = Holder(shared_memory.descriptor)
    yield holder
    holder.end()


def is_locked(memory: Memory) -> bool:
    """Whether another process has the memory for itself."""
    try:
        fcntl.lockf(memory.descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB, 1)
    except (BlockingIOError, PermissionError):
        return True
    fcntl.lockf(memory.descriptor, fcntl.LOCK_UN, 1)
    return False


def test_one_process_at_a_time_has_the_buckets(shared_memory: Memory, holder: Holder) -> None:
    assert is_locked(shared_memory)
    holder.leave()
    assert not is_locked(shared_memory)


def test_a_process_waits_for_the_buckets_until_another_has_left(
    shared_memory: Memory, holder: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            holder.leave()

    monkeypatch.setattr(shared_buckets, "time", SimpleNamespace(sleep=pause))
    with shared_memory.buckets().exclusive():
        assert len(pauses) == 3


def test_a_process_that_does_not_leave_the_buckets_is_not_waited_for_for_long(
    shared_memory: Memory, holder: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(shared_buckets, "time", SimpleNamespace(sleep=pauses.append))
    buckets, owner = shared_memory.buckets(), UUID(int=5)
    with buckets.exclusive():
        assert len(pauses) == MAX_LOCK_ATTEMPTS
        assert buckets.fill(owner, RATE, 100.0) == RATE
    assert is_locked(shared_memory)


def test_two_owners_are_charged_in_one_block(shared_memory: Memory) -> None:
    buckets = shared_memory.buckets()
    key, organization = UUID(int=1), UUID(int=2)
    with buckets.exclusive():
        for owner in (key, organization):
            assert buckets.fill(owner, RATE, 100.0) == RATE
        buckets.take(organization)
    with buckets.exclusive():
        assert buckets.fill(key, RATE, 100.0) == RATE
        assert buckets.fill(organization, RATE, 100.0) == RATE - 1


def test_the_tokens_of_a_bucket_can_be_replaced(shared_memory: Memory) -> None:
    first, second, owner = shared_memory.buckets(), shared_memory.buckets(), UUID(int=5)
    with first.exclusive():
        first.fill(owner, RATE, 100.0)
        first.put(owner, 2.5)
    with second.exclusive():
        assert second.fill(owner, RATE, 100.0) == 2.5


def test_nothing_is_written_outside_the_given_memory(shared_memory: Memory) -> None:
    before = bytes(shared_memory.memory[:BEGIN])
    buckets = shared_memory.buckets()
    with buckets.exclusive():
        for number in range(1, 1_000):
            buckets.fill(UUID(int=number), RATE, 100.0)
    assert bytes(shared_memory.memory[:BEGIN]) == before


def test_the_bucket_of_a_full_set_that_was_unused_for_longest_makes_room(
    shared_memory: Memory,
) -> None:
    buckets = shared_memory.buckets()
    candidates = (UUID(int=number) for number in range(1, SETS * (WAYS + 1) * 4))
    rivals = [owner for owner in candidates if hash(owner) % SETS == 7][: WAYS + 1]
    assert len(rivals) == WAYS + 1
    for age, owner in enumerate(rivals):
        with buckets.exclusive():
            assert buckets.fill(owner, RATE, 100 + age / 1_000) == RATE
            buckets.take(owner)
    with buckets.exclusive():
        assert buckets.fill(rivals[-1], RATE, 100.01) < RATE
        assert buckets.fill(rivals[1], RATE, 100.01) < RATE
        assert buckets.fill(rivals[0], RATE, 100.01) == RATE
