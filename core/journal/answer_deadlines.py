"""When each request has to have its answer, to find those that have waited for too long."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from typing import Final

from core.journal.pending import PendingRequest

CHECK_SECONDS: Final = 0.25  # between looks at the requests


class AnswerDeadlines:
    """Requests in the order in which they came, each of which is to be answered within a time.

    ``check`` is called every ``CHECK_SECONDS`` while there are any: one timer serves all of them.
    """

    def __init__(self, check: Callable[[], None]) -> None:
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
        self._check()
        self._timer = (
            asyncio.get_running_loop().call_later(CHECK_SECONDS, self._look)
            if self._requests
            else None
        )
