"""A queue that takes turns among flows."""

from __future__ import annotations

import pytest

from core.access.fair_queue import FairQueue

GREEDY, QUIET, THIRD = 1, 2, 3


def test_flows_take_turns_and_each_keeps_its_order() -> None:
    queue: FairQueue[str] = FairQueue()
    for flow, item in (
        (GREEDY, "a1"),
        (GREEDY, "a2"),
        (GREEDY, "a3"),
        (QUIET, "b1"),
        (THIRD, "c1"),
    ):
        queue.append(flow, item)
    assert [queue.pop() for _ in range(len(queue))] == ["a1", "b1", "c1", "a2", "a3"]
    assert not queue


def test_what_is_put_back_comes_first() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.append(GREEDY, "a2")
    queue.append(QUIET, "b1")
    queue.prepend(GREEDY, "a1")
    assert queue.peek() == "a1"
    assert [queue.pop() for _ in range(3)] == ["a1", "b1", "a2"]


def test_an_item_is_taken_out_of_the_middle() -> None:
    queue: FairQueue[str] = FairQueue()
    for item in ("a1", "a2", "a3"):
        queue.append(GREEDY, item)
    queue.remove(GREEDY, "a2")
    with pytest.raises(ValueError, match="not in deque"):
        queue.remove(GREEDY, "a2")
    with pytest.raises(ValueError, match="no item"):
        queue.remove(QUIET, "b1")
    assert [queue.pop(), queue.pop()] == ["a1", "a3"]
