"""A queue that takes turns among flows: nobody waits behind everything another party has sent."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Final, Generic, TypeVar

# The party that work is done for: an organization, or all callers without a known key together. It
# is the integer of the organization's id: Python code makes the hash of a UUID.
Flow = int
STRANGERS: Final = 0
# All who ask for pages and health, which need no key. Those whose key is not known yet are not
# behind them.
UNKEYED: Final = 1

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Items of many flows: one of each flow in turn, and within a flow first come, first served."""

    def __init__(self) -> None:
        self._flows: OrderedDict[Flow, deque[T]] = OrderedDict()  # the next flow is the first
        self._length = 0

    def __len__(self) -> int:
        return self._length

    @property
    def flow_count(self) -> int:
        """How many flows have items that wait."""
        return len(self._flows)

    def __contains__(self, flow: Flow) -> bool:
        """Whether an item of the flow waits."""
        return flow in self._flows

    def __iter__(self) -> Iterator[tuple[Flow, T]]:
        """The next item of each flow, in turn."""
        return ((flow, items[0]) for flow, items in self._flows.items())

    def append(self, flow: Flow, item: T) -> None:
        """Add an item behind those of its flow."""
        items = self._flows.get(flow)
        if items is None:
            items = self._flows[flow] = deque()
        items.append(item)
        self._length += 1

    def prepend(self, flow: Flow, item: T) -> None:
        """Add an item before those of its flow, and make the flow the next one."""
        items = self._flows.get(flow)
        if items is None:
            items = self._flows[flow] = deque()
        items.appendleft(item)
        self._flows.move_to_end(flow, last=False)
        self._length += 1

    def peek(self) -> T:
        """The item that :meth:`pop` would return; raises StopIteration if there is none."""
        return next(iter(self._flows.values()))[0]

    def pop(self) -> T:
        """Remove and return the next item; its flow goes behind all others."""
        return self.pop_of(next(iter(self._flows)))

    def pop_of(self, flow: Flow) -> T:
        """Remove and return the next item of a flow, which goes behind all others."""
        items = self._flows[flow]
        item = items.popleft()
        if items:
            self._flows.move_to_end(flow)
        else:
            del self._flows[flow]
        self._length -= 1
        return item

    def remove(self, flow: Flow, item: T) -> None:
        """Remove an item wherever it waits; raises ValueError if it does not."""
        items = self._flows.get(flow)
        if items is None:
            raise ValueError("no item of this flow waits")
        items.remove(item)
        self._length -= 1
        if not items:
            del self._flows[flow]
