"""Which requests are written together, and in which order."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest
from msgspec import structs

from core.journal import queue as queues
from core.journal.pending_events import PendingEvents
from core.journal.queue import Queue
from core.models import Actor, Caller, Event, EventBatch
from tests.support.strategies import CALLER

pytestmark = pytest.mark.anyio

RECEIVED_US = 1_776_600_300_123_456
EVENT = Event("deal.won", "code", Actor(external_id="crm-user-1"))
LARGE = 500  # events
MAX_EVENTS = 4_000
MAX_REQUESTS = 500


def _queue() -> Queue:
    return Queue(MAX_EVENTS, MAX_REQUESTS)


def _append(
    queue: Queue,
    name: str,
    events: int = LARGE,
    key: str | None = None,
    caller: Caller = CALLER,
) -> PendingEvents:
    batch = EventBatch(name, [EVENT] * events, key)
    request = PendingEvents.check(caller, batch, RECEIVED_US)
    request.answer = asyncio.get_running_loop().create_future()
    queue.append(request)
    return request


def _pop(queue: Queue) -> list[str]:
    return [request.request_id for request in queue.pop_transaction(lambda _: False)]


async def test_a_transaction_has_at_most_so_many_events_and_requests() -> None:
    queue = _queue()
    full = MAX_EVENTS // LARGE
    for number in range(full + 1):
        _append(queue, f"large {number}")
    assert _pop(queue) == [f"large {number}" for number in range(full)]
    assert _pop(queue) == [f"large {full}"]
    for number in range(MAX_REQUESTS + 1):
        _append(queue, f"small {number}", 1)
    assert len(_pop(queue)) == MAX_REQUESTS
    assert _pop(queue) == [f"small {MAX_REQUESTS}"]
    assert not queue


async def test_a_transaction_waits_for_few_bytes_to_be_judged() -> None:
    queue = _queue()
    size = queues.MAX_UNJUDGED_BYTES // 4
    for number in range(5):
        batch = EventBatch(f"unjudged {number}", [EVENT], size_bytes=size)
        request = PendingEvents(CALLER, batch, RECEIVED_US)
        request.answer = asyncio.get_running_loop().create_future()
        queue.append(request)
    _append(queue, "judged", 1)
    assert _pop(queue) == [f"unjudged {number}" for number in range(4)]
    assert _pop(queue) == ["unjudged 4", "judged"]


async def test_equal_keys_are_never_in_one_transaction() -> None:
    queue = _queue()
    for number in range(3):
        _append(queue, f"equal {number}", 1, key="the key")
    _append(queue, "other", 1, key="another key")
    assert _pop(queue) == ["equal 0", "other"]
    assert _pop(queue) == ["equal 1"]
    assert _pop(queue) == ["equal 2"]


async def test_what_is_put_back_comes_first_again() -> None:
    queue = _queue()
    names = [f"batch {number}" for number in range(3)]
    for name in names:
        _append(queue, name)
    requests = queue.pop_transaction(lambda _: False)
    assert [request.request_id for request in requests] == names
    _append(queue, "batch 3")
    queue.put_back(requests)
    assert _pop(queue) == [*names, "batch 3"]


async def test_nobody_is_written_whose_answer_is_there_already() -> None:
    queue = _queue()
    request = _append(queue, "gone")
    _append(queue, "single")
    request.answer.cancel()
    assert _pop(queue) == ["single"]


async def test_a_transaction_takes_the_first_of_each_organization_in_turn() -> None:
    queue = _queue()
    for number in range(3):
        _append(queue, f"greedy {number}")
    other = structs.replace(CALLER, organization_id=UUID(int=7))
    _append(queue, "quiet", 1, caller=other)
    assert _pop(queue) == ["greedy 0", "quiet", "greedy 1", "greedy 2"]


async def test_transactions_are_smaller_while_several_organizations_send(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queue = _queue()
    other = structs.replace(CALLER, organization_id=UUID(int=7))

    def fill() -> None:
        for number in range(MAX_EVENTS // LARGE):
            _append(queue, f"greedy {number}")

    fill()
    _append(queue, "quiet", 1, caller=other)
    assert _pop(queue) == ["greedy 0", "quiet", "greedy 1", "greedy 2"]
    # The next small batch is to find a small transaction, too.
    assert len(_pop(queue)) == queues.MAX_SHARED_EVENTS // LARGE
    _pop(queue)
    monkeypatch.setattr(queues, "SHARED_SECONDS", 0.0)
    _append(queue, "quiet", 1, caller=other)
    fill()
    _pop(queue)
    fill()
    assert len(_pop(queue)) == MAX_EVENTS // LARGE
