"""Messages of unary calls that are arriving: each organization has a share of places.

The library keeps what has come of a message until all of it is there. As long as nobody reads a
call, HTTP/2 flow control holds it to its first 16 KiB; so a call waits for a place to be read in.
"""

from __future__ import annotations

import asyncio
from typing import Final

from core.access.fair_queue import Flow

MAX_ARRIVING: Final = 32  # of one organization: 40 MiB at most


class Arrivals:
    """Gives places to messages, first come, first served within an organization."""

    def __init__(self) -> None:
        self._places: dict[Flow, asyncio.Semaphore] = {}
        self._calls: dict[Flow, int] = {}  # that have a place or wait for one

    async def take(self, flow: Flow) -> None:
        """Wait for a place, to be given back; if that fails, there is none to give back."""
        places = self._places.get(flow)
        if places is None:
            places = self._places[flow] = asyncio.Semaphore(MAX_ARRIVING)
        self._calls[flow] = self._calls.get(flow, 0) + 1
        try:
            await places.acquire()
        except BaseException:
            self._leave(flow)
            raise

    def give_back(self, flow: Flow) -> None:
        """Let the next one in."""
        self._places[flow].release()
        self._leave(flow)

    def _leave(self, flow: Flow) -> None:
        self._calls[flow] -= 1
        if not self._calls[flow]:
            del self._calls[flow], self._places[flow]
