"""Look-ups of keys: many in one query, and bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from core.access import key_lookups
from core.access.key_lookups import KeyLookups
from core.errors import IngestError
from core.models import Caller
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio


class Reads:
    """Reads of a database that has no keys; each ends when it may."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.may_answer = asyncio.Event()
        self.error: Exception | None = None

    async def read(self, key_digests: Sequence[bytes]) -> Mapping[bytes, Caller]:
        self.sizes.append(len(key_digests))
        await self.may_answer.wait()
        if self.error is not None:
            raise self.error
        return {}


def many(lookups: KeyLookups[bytes, Caller], count: int) -> list[asyncio.Task[Caller | None]]:
    """Requests with a key each, which all differ."""
    return [asyncio.create_task(lookups.find(b"%d" % number)) for number in range(count)]


async def test_keys_that_wait_are_read_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_lookups, "MAX_LOOKUPS_A_QUERY", 100)
    reads = Reads()
    lookups = KeyLookups(reads.read)
    first = asyncio.create_task(lookups.find(b"first"))
    await eventually(lambda: reads.sizes == [1], "the first is being read")
    others = many(lookups, 250)
    await asyncio.sleep(0)
    reads.may_answer.set()
    assert await asyncio.gather(first, *others) == [None] * 251
    assert reads.sizes == [1, 100, 100, 50]


async def test_a_key_whose_read_has_begun_is_read_again_for_who_comes_later() -> None:
    reads = Reads()
    lookups = KeyLookups(reads.read)
    first = asyncio.create_task(lookups.find(b"key"))
    await eventually(lambda: reads.sizes == [1], "the first is being read")
    later = [asyncio.create_task(lookups.find(b"key")) for _ in range(3)]
    await asyncio.sleep(0)
    reads.may_answer.set()
    await asyncio.gather(first, *later)
    assert reads.sizes == [1, 1]


async def test_more_keys_than_may_wait_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_lookups, "MAX_WAITING_LOOKUPS", 10)
    reads = Reads()
    lookups = KeyLookups(reads.read)
    waiting = many(lookups, 12)
    ended = asyncio.gather(*waiting, return_exceptions=True)
    await eventually(lambda: reads.sizes == [10], "the ten are being read")
    reads.may_answer.set()
    answers = await ended
    assert answers[:10] == [None] * 10
    assert [type(answer) for answer in answers[10:]] == [IngestError] * 2


async def test_a_read_that_fails_fails_its_requests_and_the_next_goes_on() -> None:
    reads = Reads()
    lookups = KeyLookups(reads.read)
    reads.error = OSError("gone")
    reads.may_answer.set()
    failed = await asyncio.gather(*many(lookups, 2), return_exceptions=True)
    assert [type(answer) for answer in failed] == [OSError] * 2
    reads.error = None
    assert await lookups.find(b"again") is None
