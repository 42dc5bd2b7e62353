"""The requests that have no answer yet, to find those that have waited for too long."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from typing import Final

from core.journal.pending import PendingRequest
from core.slices import Sliced

CHECK_SECONDS: Final = 0.25  # between looks at the requests


class Unanswered:
    """Requests in the order in which they came, each of which is to be answered within a time.

    ``check`` is done every ``CHECK_SECONDS`` while there are any, each slice of it in a turn of the
    event loop: one timer serves all of them.
    """

    def __init__(self, check: Callable[[], Sliced[None]]) -> None:
        self._requests: dict[PendingRequest, None] = {}
        self._check = check
        self._timer: asyncio.TimerHandle | None = None

    def add(self, request: PendingRequest, answer_seconds: float) -> None:
        """Add a request, to be answered within so many seconds: as many as all earlier ones."""
        loop = asyncio.get_running_loop()
        request.give_up_at = loop.time() + answer_seconds
        self._requests[request] = None
        if self._timer is None:
            self._timer = loop.call_later(CHECK_SECONDS, self._look)

    def remove(self, request: PendingRequest) -> None:
        """Forget a request that is answered."""
        del self._requests[request]

    def due_within(self, seconds: float) -> Iterator[PendingRequest]:
        """The requests that are to be answered within so many seconds from now."""
        due_by = asyncio.get_running_loop().time() + seconds
        return itertools.takewhile(lambda request: request.give_up_at <= due_by, self._requests)

    def _look(self) -> None:
        self._go_on(self._check())

    def _go_on(self, check: Sliced[None]) -> None:
        loop = asyncio.get_running_loop()
        if next(check, check) is not check:
            self._timer = loop.call_later(0, self._go_on, check)
        else:
            self._timer = loop.call_later(CHECK_SECONDS, self._look) if self._requests else None
