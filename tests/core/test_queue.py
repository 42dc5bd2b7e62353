"""Which drafts are written together, and in which order."""

from __future__ import annotations

import asyncio

import pytest

from core.drafts import EventsDraft
from core.events import Actor, Event, EventBatch
from core.queue import MAX_GROUP_DRAFTS, MAX_GROUP_EVENTS, Queue
from tests.core.strategies import CALLER

pytestmark = pytest.mark.anyio

RECEIVED_US = 1_776_600_300_123_456
EVENT = Event("deal.won", "code", Actor(external_id="crm-user-1"))


def _join(
    queue: Queue, name: str, events: int = 500, *, streamed: bool = False, key: str | None = None
) -> EventsDraft:
    batch = EventBatch(name, [EVENT] * events, key, streamed=streamed)
    draft = EventsDraft.check(CALLER, batch, RECEIVED_US)
    draft.answer = asyncio.get_running_loop().create_future()
    queue.join(draft)
    return draft


def _take(queue: Queue) -> list[str]:
    return [draft.request_id for draft in queue.take_group(lambda _: False)]


async def test_a_group_has_at_most_so_many_events_and_requests() -> None:
    queue = Queue()
    full = MAX_GROUP_EVENTS // 500
    for number in range(full + 1):
        _join(queue, f"large {number}")
    assert _take(queue) == [f"large {number}" for number in range(full)]
    assert _take(queue) == [f"large {full}"]
    for number in range(MAX_GROUP_DRAFTS + 1):
        _join(queue, f"small {number}", 1)
    assert len(_take(queue)) == MAX_GROUP_DRAFTS
    assert _take(queue) == [f"small {MAX_GROUP_DRAFTS}"]
    assert not queue


async def test_streams_and_single_requests_share_a_group() -> None:
    queue = Queue()
    for number in range(8):
        _join(queue, f"stream {number}", streamed=True)
    for number in range(8):
        _join(queue, f"single {number}")
    assert _take(queue) == ["single 0", "single 1", "stream 0", "stream 1"]
    assert _take(queue) == ["single 2", "single 3", "stream 2", "stream 3"]


async def test_one_event_does_not_wait_for_a_backlog_of_a_stream() -> None:
    queue = Queue()
    for number in range(32):
        _join(queue, f"stream {number}", streamed=True)
    _join(queue, "one event", 1)
    assert _take(queue)[0] == "one event"
    assert _take(queue)[0] == "stream 3"


async def test_what_one_kind_leaves_the_other_has() -> None:
    queue = Queue()
    for number in range(4):
        _join(queue, f"single {number}")
    _join(queue, "stream 0", streamed=True)
    assert _take(queue) == ["single 0", "single 1", "stream 0", "single 2"]
    assert _take(queue) == ["single 3"]


async def test_equal_keys_are_never_in_one_group() -> None:
    queue = Queue()
    for number in range(3):
        _join(queue, f"single {number}", 1, key="the key")
    _join(queue, "stream", 1, streamed=True, key="the key")
    _join(queue, "other", 1, key="another key")
    assert _take(queue) == ["single 0", "other"]
    assert _take(queue) == ["single 1"]
    assert sorted(_take(queue) + _take(queue)) == ["single 2", "stream"]


async def test_what_is_put_back_comes_first_again() -> None:
    queue = Queue()
    for number in range(3):
        _join(queue, f"stream {number}", streamed=True)
        _join(queue, f"single {number}")
    drafts = queue.take_group(lambda _: False)
    assert [draft.request_id for draft in drafts] == [
        "single 0",
        "single 1",
        "stream 0",
        "stream 1",
    ]
    queue.put_back(drafts)
    assert _take(queue) == ["single 0", "single 1", "stream 0", "stream 1"]


async def test_nobody_is_written_whose_answer_is_there_already() -> None:
    queue = Queue()
    draft = _join(queue, "gone")
    _join(queue, "single")
    draft.answer.cancel()
    assert _take(queue) == ["single"]
