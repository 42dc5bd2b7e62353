"""The queue: drafts that wait for the journal's next group, and what all drafts hold in memory."""

from __future__ import annotations

import asyncio
import contextlib
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
# decoded while another commits; and what many send is not to keep streams from a group.
MAX_SINGLE_EVENTS: Final = MAX_GROUP_EVENTS // 2
MAX_SINGLE_DRAFTS: Final = MAX_GROUP_DRAFTS // 2
# Of all drafts that have no answer yet: waiting, in a lane or being written.
MAX_HELD_DRAFTS: Final = 2_000
MAX_HELD_BYTES: Final = 128 * 1_048_576


def overloaded() -> IngestError:
    """What a client is told whose draft nobody gets to in time."""
    return unavailable("The service is overloaded. Retry shortly.")


class Queue:
    """Drafts in the order in which they will be written: of streams, and all others.

    Either kind has a part of each group, so that neither waits for the other's backlog.
    """

    def __init__(self) -> None:
        self._streamed: deque[Draft] = deque()
        self._single: deque[Draft] = deque()
        self._held_drafts = self._held_bytes = 0
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._streamed) + len(self._single)

    def _of(self, draft: Draft) -> deque[Draft]:
        return self._streamed if draft.streamed else self._single

    def join(self, draft: Draft) -> None:
        """Add a draft, which counts until its answer is done.

        Raises ``internal_error`` if it would be one too many.
        """
        if (
            self._held_drafts >= MAX_HELD_DRAFTS
            or self._held_bytes + draft.size_bytes > MAX_HELD_BYTES
        ):
            raise overloaded()
        self._held_drafts += 1
        self._held_bytes += draft.size_bytes
        draft.answer.add_done_callback(lambda _: self._release(draft))
        self._of(draft).append(draft)
        self.wake()

    def _release(self, draft: Draft) -> None:
        self._held_drafts -= 1
        self._held_bytes -= draft.size_bytes
        # Whoever waits may have gone away before the answer; then nobody retrieves its exception.
        if not draft.answer.cancelled():
            draft.answer.exception()

    def leave(self, draft: Draft) -> None:
        """Take out a draft that nobody waits for any more."""
        with contextlib.suppress(ValueError):  # in a group whose members are tried by parts
            self._of(draft).remove(draft)

    def put_back(self, drafts: Sequence[Draft]) -> None:
        """Have drafts that were taken wait again, before all others."""
        for draft in reversed(drafts):
            self._of(draft).appendleft(draft)
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
        group = _Group(parted)
        group.fill(self._single, MAX_SINGLE_EVENTS, MAX_SINGLE_DRAFTS)
        group.fill(self._streamed, MAX_GROUP_EVENTS, MAX_GROUP_DRAFTS)
        self.put_back(group.later)
        return group.drafts


class _Group:
    """Drafts on their way from the queue into one transaction."""

    def __init__(self, parted: Callable[[Draft], bool]) -> None:
        self.drafts: list[Draft] = []
        self.later: list[Draft] = []
        self._parted = parted
        self._claimed: set[Scope] = set()
        self._events = 0

    def fill(self, waiting: deque[Draft], most_events: int, most_drafts: int) -> None:
        while waiting and len(self.drafts) < most_drafts:
            draft = waiting[0]
            if self.drafts and self._events + len(draft.slots) > most_events:
                break
            waiting.popleft()
            if draft.answer.done() or self._parted(draft):
                continue
            if draft.claim is not None:
                # The second of two equal keys replays the first, which must have committed.
                if draft.claim.scope in self._claimed:
                    self.later.append(draft)
                    continue
                self._claimed.add(draft.claim.scope)
            draft.started = True
            self._events += len(draft.slots)
            self.drafts.append(draft)
