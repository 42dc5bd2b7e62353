"""Token buckets in shared memory: those of one process, for all of them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from mmap import mmap
from typing import NamedTuple
from uuid import UUID

import pytest

from core.access.rate_limits import OwnBuckets
from core.access.shared_buckets import BYTES, SETS, WAYS, SharedBuckets

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
