"""Queues: drafts that wait for the journal's next groups, and what all drafts hold in memory."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from core.drafts import Draft
from core.errors import IngestError, unavailable
from core.idempotency import Scope

# A group's own cost, some milliseconds, is little beside so many events; yet it is soon over.
MAX_GROUP_EVENTS: Final = 4_000
MAX_GROUP_DRAFTS: Final = 500
# Of single requests: what a few connections send is to be more than one group, so that one is
# decoded while another commits.
MAX_SINGLE_EVENTS: Final = MAX_GROUP_EVENTS // 2
MAX_SINGLE_DRAFTS: Final = MAX_GROUP_DRAFTS // 2
# Of all drafts that have no answer yet: waiting, in a lane or being written.
MAX_HELD_DRAFTS: Final = 2_000
MAX_HELD_BYTES: Final = 128 * 1_048_576


def overloaded() -> IngestError:
    """What a client is told whose draft nobody gets to in time."""
    return unavailable("The service is overloaded. Retry shortly.")


class Room:
    """The memory that drafts hold, and may hold."""

    def __init__(self) -> None:
        self._drafts: dict[Draft, None] = {}  # in the order in which they came
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._drafts)

    def enter(self, draft: Draft) -> None:
        """Take room for a draft until it is answered, and leaves.

        Raises ``internal_error`` if it would be one too many.
        """
        if len(self._drafts) >= MAX_HELD_DRAFTS or self._bytes + draft.size_bytes > MAX_HELD_BYTES:
            raise overloaded()
        self._drafts[draft] = None
        self._bytes += draft.size_bytes

    def leave(self, draft: Draft) -> None:
        """Give back the room of a draft."""
        del self._drafts[draft]
        self._bytes -= draft.size_bytes

    def held_since(self, give_up_at: float) -> list[Draft]:
        """The drafts that are to be given up until then, the first ones first."""
        return list(itertools.takewhile(lambda one: one.give_up_at <= give_up_at, self._drafts))


class Queue:
    """Drafts in the order in which one task will write them, group by group."""

    def __init__(self, max_group_events: int, max_group_drafts: int) -> None:
        self._max_group_events = max_group_events
        self._max_group_drafts = max_group_drafts
        self._drafts: deque[Draft] = deque()
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._drafts)

    def join(self, draft: Draft) -> None:
        """Add a draft."""
        self._drafts.append(draft)
        self.wake()

    def leave(self, draft: Draft) -> None:
        """Take out a draft that nobody waits for any more."""
        with contextlib.suppress(ValueError):  # in a group whose members are tried by parts
            self._drafts.remove(draft)

    def put_back(self, drafts: Sequence[Draft]) -> None:
        """Have drafts that were taken wait again, before all others."""
        self._drafts.extendleft(reversed(drafts))
        self.wake()

    def wake(self) -> None:
        """End :meth:`wait`."""
        self._changed.set()

    async def wait(self) -> None:
        """Return at the next change."""
        self._changed.clear()
        await self._changed.wait()

    def take_group(self, parted: Callable[[Draft], bool]) -> list[Draft]:
        """Take the drafts to write next, as many as one transaction may have.

        ``parted`` tells of a draft that it went elsewhere.
        """
        group: list[Draft] = []
        later: list[Draft] = []
        claimed: set[Scope] = set()
        events = 0
        while self._drafts and len(group) < self._max_group_drafts:
            draft = self._drafts[0]
            if group and events + len(draft.slots) > self._max_group_events:
                break
            self._drafts.popleft()
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
        self.put_back(later)
        return group
