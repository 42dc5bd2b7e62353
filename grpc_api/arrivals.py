"""Messages of unary calls that are arriving: each organization has a share of places.

The library keeps what has come of a message until all of it is there. As long as nobody reads a
call, HTTP/2 flow control holds it to its first 64 KiB; so a call waits for a place to be read in.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final
from uuid import UUID

MAX_ARRIVING: Final = 32  # of one organization: 40 MiB at most


class Arrivals:
    """Gives places to messages, first come, first served within an organization."""

    def __init__(self) -> None:
        self._places: dict[UUID, asyncio.Semaphore] = {}
        self._calls: dict[UUID, int] = {}  # that have a place or wait for one

    @contextlib.asynccontextmanager
    async def place(self, organization_id: UUID) -> AsyncIterator[None]:
        """Wait for a place, and have it during the block."""
        places = self._places.get(organization_id)
        if places is None:
            places = self._places[organization_id] = asyncio.Semaphore(MAX_ARRIVING)
        self._calls[organization_id] = self._calls.get(organization_id, 0) + 1
        try:
            async with places:
                yield
        finally:
            self._calls[organization_id] -= 1
            if not self._calls[organization_id]:
                del self._calls[organization_id], self._places[organization_id]
