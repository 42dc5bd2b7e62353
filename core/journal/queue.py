"""Queues: requests that wait for the journal's next transactions."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Final

from core.access.fair_queue import FairQueue
from core.journal.pending import PendingRequest
from core.journal.stored_receipt import Scope
from core.slices import SLICE_BYTES

# The cost of a transaction itself, some milliseconds, is little beside so many events; yet it is
# soon over.
MAX_STREAMED_EVENTS: Final = 8_000
MAX_STREAMED_BATCHES: Final = 500
# While several organizations send, nobody is to wait for so large a transaction of another, and for
# one more that holds his own batch.
MAX_SHARED_EVENTS: Final = 2_000
SHARED_SECONDS: Final = 1.0  # since several of them last waited together
# Transactions of single requests are smaller: the requests of a few connections fill more than one,
# so that the next is decoded while one commits.
MAX_SINGLE_EVENTS: Final = 4_000
MAX_SINGLE_REQUESTS: Final = 250
# Of requests that are yet to be judged, for which all others of their transaction wait: two slices
# of at most 25 ms, whatever they say. Usual small requests are fewer bytes than this.
MAX_UNJUDGED_BYTES: Final = 2 * SLICE_BYTES
# Between two transactions, if requests wait: a busy loop has more at hand than has come. Without
# these turns transactions are smaller, and a request costs a third more CPU
# (``bench --protocol http --batch 1 --concurrency 64``).
COLLECTING_TURNS: Final = 3


class Queue:
    """Requests of many organizations; a transaction takes the first of each in turn.

    Nobody waits behind everything another organization has sent. The requests of one organization
    keep their order. Transactions are smaller while there are several organizations.
    """

    def __init__(self, max_events: int, max_requests: int) -> None:
        self._max_events = max_events
        self._max_requests = max_requests
        self._requests: FairQueue[PendingRequest] = FairQueue()
        self._changed = asyncio.Event()
        self._shared_until = 0.0  # by the event loop's clock
        # The idempotency keys of the transaction that was popped last and is being written.
        self.in_flight: set[Scope] = set()

    def __len__(self) -> int:
        return len(self._requests)

    def append(self, request: PendingRequest) -> None:
        """Add a request behind the others of its organization."""
        self._requests.append(request.caller.organization_id.int, request)
        self.wake()

    def remove(self, request: PendingRequest) -> bool:
        """Take out a request, unless it has left already; returns whether it was here."""
        with contextlib.suppress(ValueError):
            self._requests.remove(request.caller.organization_id.int, request)
            return True
        return False

    def put_back(self, requests: Sequence[PendingRequest]) -> None:
        """Add requests that had left, before all others and in this order."""
        for request in reversed(requests):
            self._requests.prepend(request.caller.organization_id.int, request)
        self.wake()

    def wake(self) -> None:
        """End :meth:`wait`."""
        self._changed.set()

    async def wait(self) -> None:
        """Return at the next change."""
        self._changed.clear()
        await self._changed.wait()

    async def collect(self) -> None:
        """Let the event loop add what it has at hand to the requests that wait, if any do."""
        for _ in range(COLLECTING_TURNS if self._requests else 0):
            await asyncio.sleep(0)

    def pop_transaction(
        self, is_set_aside: Callable[[PendingRequest], bool]
    ) -> list[PendingRequest]:
        """Remove and return the requests of the next transaction.

        ``is_set_aside`` tells of a request that has joined a lock wait instead.
        """
        requests: list[PendingRequest] = []
        later: list[PendingRequest] = []
        claimed = self.in_flight = set()
        events_left, bytes_left = self._max_transaction_events(), MAX_UNJUDGED_BYTES
        while self._requests and len(requests) < self._max_requests:
            following = self._requests.peek()
            fits = following.items <= events_left and following.unjudged_bytes <= bytes_left
            if requests and not fits:
                break
            request = self._requests.pop()
            if request.answer.done() or is_set_aside(request):
                continue
            if request.claim is not None:
                # The second of two equal keys replays the first, which must have committed.
                if request.claim.scope in claimed:
                    later.append(request)
                    continue
                claimed.add(request.claim.scope)
            request.is_being_written = True
            events_left -= request.items
            bytes_left -= request.unjudged_bytes
            requests.append(request)
        if later:
            self.put_back(later)
        return requests

    def _max_transaction_events(self) -> int:
        now = asyncio.get_running_loop().time()
        if self._requests.flow_count > 1:
            self._shared_until = now + SHARED_SECONDS
        shared = now < self._shared_until
        return min(self._max_events, MAX_SHARED_EVENTS) if shared else self._max_events
