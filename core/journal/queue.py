"""Queues: drafts that wait for the journal's next groups, and which of them make a group."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from core.journal.idempotency import Scope
from core.journal.pending import PendingRequest

# A group's own cost, some milliseconds, is little beside so many events; yet it is soon over.
MAX_STREAMED_EVENTS: Final = 8_000
MAX_STREAMED_BATCHES: Final = 500
# Groups of single requests are smaller: what a few connections send should fill more than one, so
# that the next is decoded while one commits.
MAX_SINGLE_EVENTS: Final = 2_000
MAX_SINGLE_REQUESTS: Final = 250
# Who can be slowed down is to send no more while so much waits: what waits for long has left the
# processor's caches when its turn comes, and is slower to write.
GROUPS_AHEAD: Final = 2


class Queue:
    """Drafts in the order in which they will be taken to be written, group by group.

    ``has_room``: less waits than the next ``GROUPS_AHEAD`` groups may have.
    """

    def __init__(self, max_group_events: int, max_group_drafts: int) -> None:
        self._max_group_events = max_group_events
        self._max_group_drafts = max_group_drafts
        self._drafts: deque[PendingRequest] = deque()
        self._changed = asyncio.Event()
        self._events = 0
        self.has_room = asyncio.Event()
        self._count(0)

    def __len__(self) -> int:
        return len(self._drafts)

    def join(self, draft: PendingRequest) -> None:
        """Add a draft."""
        self._drafts.append(draft)
        self._count(len(draft.slots))
        self.wake()

    def leave(self, draft: PendingRequest) -> None:
        """Take out a draft that nobody waits for any more."""
        with contextlib.suppress(ValueError):  # it was taken already, in a group tried by parts
            self._drafts.remove(draft)
            self._count(-len(draft.slots))

    def put_back(self, drafts: Sequence[PendingRequest]) -> None:
        """Have drafts that were taken wait again, before all others."""
        self._drafts.extendleft(reversed(drafts))
        self._count(sum(len(draft.slots) for draft in drafts))
        self.wake()

    def _count(self, events: int) -> None:
        self._events += events
        if self._events < GROUPS_AHEAD * self._max_group_events:
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

    def take_group(self, parted: Callable[[PendingRequest], bool]) -> list[PendingRequest]:
        """Take the drafts to write next, as many as one transaction may have.

        ``parted``: whether a draft went elsewhere instead, to a lane.
        """
        group: list[PendingRequest] = []
        later: list[PendingRequest] = []
        claimed: set[Scope] = set()
        events = 0
        while self._drafts and len(group) < self._max_group_drafts:
            draft = self._drafts[0]
            if group and events + len(draft.slots) > self._max_group_events:
                break
            self._drafts.popleft()
            self._count(-len(draft.slots))
            if draft.answer.done() or parted(draft):
                continue
            if draft.claim is not None:
                # The second of two equal keys replays the first, which must have committed.
                if draft.claim.scope in claimed:
                    later.append(draft)
                    continue
                claimed.add(draft.claim.scope)
            draft.started = True
            events += len(draft.slots)
            group.append(draft)
        if later:
            self.put_back(later)
        return group
