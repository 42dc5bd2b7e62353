"""Lock waits: requests that met another process's lock wait here, and everybody else goes on.

A lock wait belongs to an organization, or to one idempotency key if only that is locked. Its first
request is tried again and again. Once that gets through, the lock is gone, and the others return to
the journal's queues in their order. While a lock wait exists, every request that belongs to it
joins it, so that nothing overtakes: the batches of a producer stay in their sequence.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final
from uuid import UUID

from core.errors import IngestError, unavailable
from core.journal.pending import PendingRequest
from core.journal.stored_receipt import Scope

log = logging.getLogger(__name__)

MAX_KEY_WAITS: Final = 3  # of an organization: finding each holds up the others for a while
TRY_SECONDS: Final = 1.0  # a lock wait tries for so long, then another one does

LockWaitKey = UUID | Scope


class LockedError(Exception):
    """A lock that another process holds was not given up in time; nothing was written.

    ``at_idempotency_key``: it was met while claiming idempotency keys, so it is one key's lock.
    """

    def __init__(self, at_idempotency_key: bool) -> None:
        super().__init__("a lock was not given up in time")
        self.at_idempotency_key = at_idempotency_key


def still_locked(request: PendingRequest) -> IngestError:
    """The answer to a request whose time is over before the lock is given up."""
    if isinstance(request.lock_wait, Scope):
        return unavailable(
            "The first request with this Idempotency-Key is still being written. Nothing more was "
            "written; retry with the same Idempotency-Key."
        )
    return unavailable(
        "Earlier data of your organization is still being written. This was not written; retry "
        "shortly with the same Idempotency-Key."
    )


class LockWaits:
    """All lock waits; there are no more than requests, which the journal bounds.

    ``write`` tries a request once and returns whether it is still locked out; a request that it
    answered is done with. ``put_back`` takes the requests whose lock is gone, in their order.
    ``writers`` bounds the tries at a time.
    """

    def __init__(
        self,
        write: Callable[[PendingRequest], Awaitable[bool]],
        put_back: Callable[[Sequence[PendingRequest]], None],
        writers: asyncio.Semaphore,
    ) -> None:
        self._write = write
        self._put_back = put_back
        self._waits: dict[LockWaitKey, deque[PendingRequest]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers = writers

    def __len__(self) -> int:
        return len(self._waits)

    def key_of(self, request: PendingRequest) -> LockWaitKey | None:
        """The lock wait that the request must join, if there is one."""
        if not self._waits:
            return None
        if request.claim is not None and request.claim.scope in self._waits:
            return request.claim.scope
        organization_id = request.caller.organization_id
        return organization_id if organization_id in self._waits else None

    def may_search_keys(self, organization_id: UUID) -> bool:
        """Whether it is worth finding which of the organization's keys are locked."""
        keys = [key for key in self._waits if isinstance(key, Scope)]
        return sum(key.organization_id == organization_id for key in keys) < MAX_KEY_WAITS

    def may_add(self, key: Scope) -> bool:
        """Whether a request may join the lock wait of an idempotency key, or begin it."""
        return key in self._waits or self.may_search_keys(key.organization_id)

    def halves(
        self, requests: Sequence[PendingRequest], error: LockedError
    ) -> list[list[PendingRequest]]:
        """The locked requests as two parts, to be tried apart; no part once all wait here.

        The requests of an organization stay together and in their order, unless the lock is that
        of an idempotency key.
        """
        organizations: dict[UUID, list[PendingRequest]] = {}
        for request in requests:
            organizations.setdefault(request.caller.organization_id, []).append(request)
        if len(organizations) > 1:
            blocks = list(organizations.values())
        elif (
            error.at_idempotency_key and len(requests) > 1 and self.may_search_keys(*organizations)
        ):
            blocks = [[request] for request in requests]
        else:
            key: LockWaitKey = requests[0].caller.organization_id
            if error.at_idempotency_key and len(requests) == 1 and requests[0].claim is not None:
                key = requests[0].claim.scope
            log.warning("%d requests wait for a lock that another process holds", len(requests))
            for request in requests:
                self.add(key, request)
            return []
        half = len(blocks) // 2
        return [list(itertools.chain(*part)) for part in (blocks[:half], blocks[half:])]

    def add(self, key: LockWaitKey, request: PendingRequest) -> None:
        """Have the request wait behind the others of the same key; the first begins a lock wait."""
        if request.lock_wait == key:
            return
        request.is_being_written = False
        request.lock_wait = key
        if key in self._waits:
            self._waits[key].append(request)
            return
        requests = self._waits[key] = deque([request])
        task = asyncio.create_task(self._try_until_free(key, requests))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def remove(self, request: PendingRequest) -> None:
        """Take out a request that nobody waits for any more."""
        if request.lock_wait is not None and request.lock_wait in self._waits:
            with contextlib.suppress(ValueError):
                self._waits[request.lock_wait].remove(request)

    async def _try_until_free(self, key: LockWaitKey, requests: deque[PendingRequest]) -> None:
        try:
            locked = True
            while requests and locked:
                async with self._writers:
                    if requests:
                        locked = await self._write(requests[0])
                if requests and requests[0].answer.done():
                    requests.popleft()
        finally:
            # No pause in between: a request that comes from now on comes behind these.
            del self._waits[key]
            for request in requests:
                request.lock_wait = None
            self._put_back(requests)
