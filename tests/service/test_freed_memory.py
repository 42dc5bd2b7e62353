"""Memory that a burst has used is returned to the system."""

from __future__ import annotations

import asyncio

import pytest

from service import freed_memory
from service.freed_memory import resident_bytes, return_memory
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

MIB = 1_048_576


async def test_freed_memory_between_pieces_in_use_is_returned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(freed_memory, "CHECK_SECONDS", 0.05)
    returning = asyncio.create_task(return_memory())
    await asyncio.sleep(0)
    before = resident_bytes()
    pieces = [bytes(16_384) for _ in range(20_000)]
    kept = pieces[::100]  # the allocator cannot give back what lies between them by itself
    most = resident_bytes()
    assert most > before + 200 * MIB
    del pieces
    await eventually(lambda: resident_bytes() < before + 100 * MIB, "it is returned", seconds=5)
    assert kept
    returning.cancel()
