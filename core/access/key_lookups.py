"""Look-ups by keys: all that wait are read in one query, so that made-up keys cost little."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Generic, TypeVar

from core.access.shared_budget import overloaded
from core.postgres.errors import NoAnswerError, database_away

MAX_LOOKUPS_A_QUERY: Final = 500
MAX_WAITING_LOOKUPS: Final = 5_000  # of different keys
LOOKUP_SECONDS: Final = 3.0

K = TypeVar("K")
V = TypeVar("V")


class KeyLookups(Generic[K, V]):
    """Finds what belongs to keys, many with each call of ``read``, which leaves out unknown ones.

    A request never gets what was being read before it came: a change may have been announced in
    between. Requests with one key that wait together share a look-up.
    """

    def __init__(self, read: Callable[[Sequence[K]], Awaitable[Mapping[K, V]]]) -> None:
        self._read = read
        self._waiting: dict[K, asyncio.Future[V | None]] = {}
        self._reading: asyncio.Task[None] | None = None

    async def find(self, key: K) -> V | None:
        """The value that belongs to the key; None if there is no such key.

        Raises ``internal_error``, transient, if too many other keys wait, and if the database does
        not answer within ``LOOKUP_SECONDS``.
        """
        found = self._waiting.get(key)
        if found is None:
            if len(self._waiting) >= MAX_WAITING_LOOKUPS:
                raise overloaded()
            found = self._waiting[key] = asyncio.get_running_loop().create_future()
        if self._reading is None:
            self._reading = asyncio.create_task(self._read_all())
        # A request that stops waiting does not cancel the look-up for the others.
        await asyncio.wait({found}, timeout=LOOKUP_SECONDS)
        if not found.done():
            raise database_away()
        try:
            return found.result()
        except NoAnswerError as error:
            raise database_away() from error

    async def _read_all(self) -> None:
        try:
            while self._waiting:
                await self._read_some()
        finally:
            self._reading = None

    async def _read_some(self) -> None:
        some = dict(itertools.islice(self._waiting.items(), MAX_LOOKUPS_A_QUERY))
        for key in some:
            del self._waiting[key]
        try:
            values = await self._read(list(some))
        except Exception as error:
            for found in some.values():
                found.set_exception(error)
                found.exception()  # asyncio would log one that nobody waits for any more
        else:
            for key, found in some.items():
                found.set_result(values.get(key))
