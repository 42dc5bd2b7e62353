"""The bounds of a process together."""

from __future__ import annotations

import asyncio

import pytest

from core.access.admission import Admission
from core.access.memory_bounds import MAX_OPEN_STREAMS

pytestmark = pytest.mark.anyio


async def test_an_ack_is_sent_whoever_waits_for_other_turns() -> None:
    """An organization's own requests, or other streams, do not take the ack of what is stored."""
    admission = Admission()
    large, *small = range(MAX_OPEN_STREAMS // 2 + 1)
    while admission.waiting_steps.try_take(large, 1):
        pass  # requests of the same organization that wait to begin
    streams = [large] * (MAX_OPEN_STREAMS - len(small)) + small
    await asyncio.gather(*(admission.acking.begin(flow) for flow in streams))
    assert admission.waiting_steps.try_take(small[0], 1)
