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

MAX_GROUP_EVENTS: Final = 5_000
MAX_GROUP_DRAFTS: Final = 500
# Of all drafts that have no answer yet: waiting, in a lane or being written.
MAX_HELD_DRAFTS: Final = 2_000
MAX_HELD_BYTES: Final = 128 * 1_048_576


def overloaded() -> IngestError:
    """What a client is told whose draft nobody gets to in time."""
    return unavailable("The service is overloaded. Retry shortly.")


class Queue:
    """Drafts in the order in which they will be written."""

    def __init__(self) -> None:
        self._waiting: deque[Draft] = deque()
        self._held_drafts = self._held_bytes = 0
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

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
        self._waiting.append(draft)
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
            self._waiting.remove(draft)

    def put_back(self, drafts: Sequence[Draft]) -> None:
        """Have drafts that were taken wait again, before all others."""
        self._waiting.extendleft(reversed(drafts))
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
        claimed: set[Scope] = set()
        later: list[Draft] = []
        events = 0
        while self._waiting and len(group) < MAX_GROUP_DRAFTS:
            draft = self._waiting[0]
            if group and events + len(draft.slots) > MAX_GROUP_EVENTS:
                break
            self._waiting.popleft()
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
        self._waiting.extendleft(reversed(later))
        return group
