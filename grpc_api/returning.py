"""Calls of strangers who were refused and call again: they wait, and have their streams meanwhile.

A call that is refused makes room on its connection for the next one, so that a flood is as fast as
it is refused. One that waits holds its place among the calls that its connection may have. A
connection is limited to these, so a flood is as fast as its calls are let on.

Nothing is made for a call that waits: a task for each would delay others as they come, and again as
they go together. With this, a quiet tenant's p99 over gRPC beside `python -m tests.pressure
unfinished_messages_in_all_calls` is 0.1 to 0.5 s, of which the most is at the beginning; it was 1.1
to 3.4 s.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

# Of a process. The library has some 30 KiB of each, more than half of it its message's beginning.
MAX_WAITING: Final = 4_096
# So many go on, and then none for so long: 500 a second, which take an eighth of a core.
MAX_AT_ONCE: Final = 2
PAUSE_SECONDS: Final = 0.004

Go = Callable[[], None]


class ReturningCalls:
    """Lets calls go on at a steady pace, first come, first served.

    A call that is dropped is reset by the library.
    """

    def __init__(self) -> None:
        self._waiting: deque[Go] = deque()
        self._has_some = asyncio.Event()

    def add(self, go: Go) -> None:
        """Have a call wait until ``go`` is called; one too many is dropped."""
        if len(self._waiting) < MAX_WAITING:
            self._waiting.append(go)
            self._has_some.set()

    async def run(self) -> None:
        """Let them go on until this is cancelled; those that are left are dropped."""
        try:
            while True:
                await self._has_some.wait()
                for _ in range(min(MAX_AT_ONCE, len(self._waiting))):
                    self._waiting.popleft()()
                if not self._waiting:
                    self._has_some.clear()
                await asyncio.sleep(PAUSE_SECONDS)
        finally:
            self._waiting.clear()
