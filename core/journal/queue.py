"""Queues: requests that wait for the journal's next transactions."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from core.journal.pending import PendingRequest
from core.journal.stored_receipt import Scope

# The cost of a transaction itself, some milliseconds, is little beside so many events; yet it is
# soon over.
MAX_STREAMED_EVENTS: Final = 8_000
MAX_STREAMED_BATCHES: Final = 500
# Transactions of single requests are smaller: the requests of a few connections fill more than one,
# so that the next is decoded while one commits.
MAX_SINGLE_EVENTS: Final = 2_000
MAX_SINGLE_REQUESTS: Final = 250
# Streams are slowed down while so many transactions' worth of events waits. More would have left
# the processor's caches when its turn comes, and be slower to write.
TRANSACTIONS_AHEAD: Final = 2


class Queue:
    """Requests in their order, of which each transaction takes the first ones.

    ``has_room`` is set while fewer events wait than the next ``TRANSACTIONS_AHEAD`` may have.
    """

    def __init__(self, max_events: int, max_requests: int) -> None:
        self._max_events = max_events
        self._max_requests = max_requests
        self._requests: deque[PendingRequest] = deque()
        self._changed = asyncio.Event()
        self._events = 0
        self.has_room = asyncio.Event()
        self._count(0)

    def __len__(self) -> int:
        return len(self._requests)

    def append(self, request: PendingRequest) -> None:
        """Add a request behind all others."""
        self._requests.append(request)
        self._count(len(request.actor_indexes))
        self.wake()

    def remove(self, request: PendingRequest) -> None:
        """Take out a request that nobody waits for any more; no matter if it has left already."""
        with contextlib.suppress(ValueError):
            self._requests.remove(request)
            self._count(-len(request.actor_indexes))

    def put_back(self, requests: Sequence[PendingRequest]) -> None:
        """Add requests that had left, before all others."""
        self._requests.extendleft(reversed(requests))
        self._count(sum(len(request.actor_indexes) for request in requests))
        self.wake()

    def _count(self, events: int) -> None:
        self._events += events
        if self._events < TRANSACTIONS_AHEAD * self._max_events:
            self.has_room.set()
        else:
            self.has_room.clear()

    def wake(self) -> None:
        """End :meth:`wait`."""
        self._changed.set()

    async def wait(self) -> None:
        """Return at the next change."""
        self._changed.clear()
        await self._changed.wait()

    def pop_transaction(
        self, is_set_aside: Callable[[PendingRequest], bool]
    ) -> list[PendingRequest]:
        """Remove and return the requests of the next transaction.

        ``is_set_aside`` tells of a request that has joined a lock wait instead.
        """
        requests: list[PendingRequest] = []
        later: list[PendingRequest] = []
        claimed: set[Scope] = set()
        events = 0
        while self._requests and len(requests) < self._max_requests:
            request = self._requests[0]
            if requests and events + len(request.actor_indexes) > self._max_events:
                break
            self._requests.popleft()
            self._count(-len(request.actor_indexes))
            if request.answer.done() or is_set_aside(request):
                continue
            if request.claim is not None:
                # The second of two equal keys replays the first, which must have committed.
                if request.claim.scope in claimed:
                    later.append(request)
                    continue
                claimed.add(request.claim.scope)
            request.is_being_written = True
            events += len(request.actor_indexes)
            requests.append(request)
        if later:
            self.put_back(later)
        return requests
