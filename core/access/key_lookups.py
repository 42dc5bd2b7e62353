"""Look-ups of keys: all that wait are read in one query, so that made-up keys cost little."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from core.access.shared_budget import overloaded
from core.models import Caller
from core.postgres.errors import NoAnswerError, database_away

MAX_LOOKUPS_A_QUERY: Final = 500
MAX_WAITING_LOOKUPS: Final = 5_000  # of different keys
LOOKUP_SECONDS: Final = 3.0

# The callers that there are, by the digests of their keys.
Read = Callable[[Sequence[bytes]], Awaitable[Mapping[bytes, Caller]]]


class KeyLookups:
    """Finds callers by the digests of their keys, many with each call of ``read``.

    A request never gets what was being read before it came: a change may have been announced in
    between. Requests with one key that wait together share a look-up.
    """

    def __init__(self, read: Read) -> None:
        self._read = read
        self._waiting: dict[bytes, asyncio.Future[Caller | None]] = {}
        self._reading: asyncio.Task[None] | None = None

    async def find(self, key_digest: bytes) -> Caller | None:
        """The caller whose key has this digest; None if there is no such key.

        Raises ``internal_error``, transient, if too many other keys wait, and if the database does
        not answer within ``LOOKUP_SECONDS``.
        """
        found = self._waiting.get(key_digest)
        if found is None:
            if len(self._waiting) >= MAX_WAITING_LOOKUPS:
                raise overloaded()
            found = self._waiting[key_digest] = asyncio.get_running_loop().create_future()
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
        for key_digest in some:
            del self._waiting[key_digest]
        try:
            callers = await self._read(list(some))
        except Exception as error:
            for found in some.values():
                found.set_exception(error)
                found.exception()  # asyncio would log one that nobody waits for any more
        else:
            for key_digest, found in some.items():
                found.set_result(callers.get(key_digest))
