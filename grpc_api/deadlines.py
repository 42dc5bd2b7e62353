"""Deadlines of many calls, which one timer looks after.

With ``asyncio.timeout`` each call would set two timers and clear them: a unary call of one event
costs 4 % more CPU (``bench --protocol grpc-unary --batch 1 --concurrency 64``).
"""

from __future__ import annotations

import asyncio
from typing import Final

CHECK_SECONDS: Final = 0.25  # between looks: a call ends so much later than it has to


class Deadline:
    """The task that began it is cancelled at ``at``, in seconds by the loop; ``is_over`` then."""

    __slots__ = ("_task", "at", "is_over")

    def __init__(self, task: asyncio.Task[object], at: float) -> None:
        self._task = task
        self.at = at
        self.is_over = False

    def end_task(self) -> None:
        """Cancel the task, once."""
        if not self.is_over:
            self.is_over = True
            self._task.cancel()


class Deadlines:
    """The deadlines of tasks of one event loop."""

    def __init__(self) -> None:
        self._open: set[Deadline] = set()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, seconds: float) -> Deadline:
        """A deadline of this task; it is given to :meth:`end` when the task is through."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        deadline = Deadline(task, loop.time() + seconds)
        self._open.add(deadline)
        if self._timer is None:
            self._timer = loop.call_later(CHECK_SECONDS, self._check)
        return deadline

    def end(self, deadline: Deadline) -> None:
        """Leave the task alone from now on."""
        self._open.remove(deadline)

    def _check(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for deadline in self._open:
            if deadline.at <= now:
                deadline.end_task()
        self._timer = loop.call_later(CHECK_SECONDS, self._check) if self._open else None
