"""LockWaits: where drafts that meet another process's lock wait, while everybody else's go on.

A lane is of one organization, or of one idempotency key if that is all that is locked. The head of
a lane is tried again and again; once it gets through, the lock is gone, and the others return to
the journal's queues in their order. While a lane exists whatever belongs to it joins it, so that
nothing overtakes: a producer's batches stay in their sequence.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final
from uuid import UUID

from core.errors import IngestError, unavailable
from core.journal.idempotency import Scope
from core.journal.pending import PendingRequest

MAX_LOCK_WAIT_WRITERS: Final = 3  # transactions at a time, of all lanes
MAX_KEY_LOCK_WAITS: Final = 3  # of an organization: finding each holds up the others for a while
# So long a lane waits for its lock before another lane has its turn.
LOCK_WAIT_TURN_SECONDS: Final = 1.0

LockWaitKey = UUID | Scope


class LockedError(Exception):
    """A lock that others hold was not given up in time; nothing was written.

    ``at_key``: it was met while claiming idempotency keys, so it is one key's, not more.
    """

    def __init__(self, at_key: bool) -> None:
        super().__init__("a lock was not given up in time")
        self.at_key = at_key


def still_locked(draft: PendingRequest) -> IngestError:
    """What a client is told whose patience ends before the lock is given up."""
    if isinstance(draft.lane, Scope):
        return unavailable(
            "The first request with this Idempotency-Key is still being written. Nothing more was "
            "written; retry with the same Idempotency-Key."
        )
    return unavailable(
        "Earlier data of your organization is still being written. This was not written; retry "
        "shortly with the same Idempotency-Key."
    )


class LockWaits:
    """The lanes there are. There can be no more than drafts, which the journal bounds.

    ``write`` has a draft one turn and returns whether it is locked out still; a draft that it
    answered is done with. ``give_back`` takes the drafts whose lane is free, in their order.
    """

    def __init__(
        self,
        write: Callable[[PendingRequest], Awaitable[bool]],
        give_back: Callable[[Sequence[PendingRequest]], None],
    ) -> None:
        self._write = write
        self._give_back = give_back
        self._lanes: dict[LockWaitKey, deque[PendingRequest]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers = asyncio.Semaphore(MAX_LOCK_WAIT_WRITERS)

    def __len__(self) -> int:
        return len(self._lanes)

    def of(self, draft: PendingRequest) -> LockWaitKey | None:
        """The lane that the draft must join, if there is one."""
        if not self._lanes:
            return None
        if draft.claim is not None and draft.claim.scope in self._lanes:
            return draft.claim.scope
        organization_id = draft.caller.organization_id
        return organization_id if organization_id in self._lanes else None

    def room_for_keys_of(self, organization_id: UUID) -> bool:
        """Whether it is worth finding which of the organization's keys are locked."""
        keys = [key for key in self._lanes if isinstance(key, Scope)]
        return sum(key.organization_id == organization_id for key in keys) < MAX_KEY_LOCK_WAITS

    def park(self, key: LockWaitKey, draft: PendingRequest) -> None:
        """Have the draft wait in a lane, which begins with it if there is none."""
        draft.started = False
        draft.lane = key
        if key in self._lanes:
            self._lanes[key].append(draft)
            return
        lane = self._lanes[key] = deque([draft])
        task = asyncio.create_task(self._serve(key, lane))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def forget(self, draft: PendingRequest) -> None:
        """Take out a draft that nobody waits for any more."""
        if draft.lane is not None and draft.lane in self._lanes:
            with contextlib.suppress(ValueError):
                self._lanes[draft.lane].remove(draft)

    async def _serve(self, key: LockWaitKey, lane: deque[PendingRequest]) -> None:
        try:
            locked = True
            while lane and locked:
                async with self._writers:
                    if lane:
                        locked = await self._write(lane[0])
                if lane and lane[0].answer.done():
                    lane.popleft()
        finally:
            # Without a pause in between: what comes from now on comes behind these.
            del self._lanes[key]
            for draft in lane:
                draft.lane = None
            self._give_back(lane)
