"""Which drafts are written together, and in which order."""

from __future__ import annotations

import asyncio

import pytest

from core.drafts import EventsDraft
from core.events import Actor, Event, EventBatch
from core.queue import (
    MAX_GROUP_DRAFTS,
    MAX_GROUP_EVENTS,
    MAX_SINGLE_DRAFTS,
    MAX_SINGLE_EVENTS,
    Queue,
)
from tests.core.strategies import CALLER

pytestmark = pytest.mark.anyio

RECEIVED_US = 1_776_600_300_123_456
EVENT = Event("deal.won", "code", Actor(external_id="crm-user-1"))
LARGE = 500  # events


def _join(
    queue: Queue, name: str, events: int = LARGE, *, streamed: bool = False, key: str | None = None
) -> EventsDraft:
    batch = EventBatch(name, [EVENT] * events, key, streamed=streamed)
    draft = EventsDraft.check(CALLER, batch, RECEIVED_US)
    draft.answer = asyncio.get_running_loop().create_future()
    queue.join(draft)
    return draft


def _take(queue: Queue) -> list[str]:
    return [draft.request_id for draft in queue.take_group(lambda _: False)]


@pytest.mark.parametrize(
    ("streamed", "events", "drafts"),
    [(True, MAX_GROUP_EVENTS, MAX_GROUP_DRAFTS), (False, MAX_SINGLE_EVENTS, MAX_SINGLE_DRAFTS)],
)
async def test_a_group_has_at_most_so_many_events_and_requests(
    streamed: bool, events: int, drafts: int
) -> None:
    queue = Queue()
    full = events // LARGE
    for number in range(full + 1):
        _join(queue, f"large {number}", streamed=streamed)
    assert _take(queue) == [f"large {number}" for number in range(full)]
    assert _take(queue) == [f"large {full}"]
    for number in range(drafts + 1):
        _join(queue, f"small {number}", 1, streamed=streamed)
    assert len(_take(queue)) == drafts
    assert _take(queue) == [f"small {drafts}"]
    assert not queue


async def test_streams_and_single_requests_share_a_group() -> None:
    queue = Queue()
    for number in range(MAX_GROUP_EVENTS // LARGE):
        _join(queue, f"stream {number}", streamed=True)
        _join(queue, f"single {number}")
    single, streamed = MAX_SINGLE_EVENTS // LARGE, (MAX_GROUP_EVENTS - MAX_SINGLE_EVENTS) // LARGE
    assert _take(queue) == [
        *(f"single {number}" for number in range(single)),
        *(f"stream {number}" for number in range(streamed)),
    ]


async def test_one_event_does_not_wait_for_a_backlog_of_a_stream() -> None:
    queue = Queue()
    full = MAX_GROUP_EVENTS // LARGE
    for number in range(2 * full):
        _join(queue, f"stream {number}", streamed=True)
    _join(queue, "one event", 1)
    assert _take(queue)[0] == "one event"
    assert _take(queue)[0] == f"stream {full - 1}"


async def test_a_stream_has_what_single_requests_leave() -> None:
    queue = Queue()
    full = MAX_GROUP_EVENTS // LARGE
    _join(queue, "single")
    for number in range(full):
        _join(queue, f"stream {number}", streamed=True)
    assert _take(queue) == ["single", *(f"stream {number}" for number in range(full - 1))]


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
    names = [draft.request_id for draft in drafts]
    assert names == [f"{kind} {number}" for kind in ("single", "stream") for number in range(3)]
    _join(queue, "stream 3", streamed=True)
    queue.put_back(drafts)
    assert _take(queue) == [*names, "stream 3"]


async def test_nobody_is_written_whose_answer_is_there_already() -> None:
    queue = Queue()
    draft = _join(queue, "gone")
    _join(queue, "single")
    draft.answer.cancel()
    assert _take(queue) == ["single"]
