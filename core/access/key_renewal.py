"""The renewal of digests: a key that was used gets one under the secret that is in force.

It takes three steps, each of which may be the last before a crash, and may be done again and by
several servers at once. In between the key is known by either digest:

1. The directory gets the new digest beside the old one.
2. The cell's key gets the new digest in place of the old one.
3. The directory loses the old one.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple
from uuid import UUID

from core.access.key_lookups import LOOKUP_SECONDS
from core.access.key_secrets import Digests, KeySecrets
from core.clock import Clock
from core.errors import IngestError
from core.failure_log import FailureLog
from core.postgres.database import Database
from core.postgres.directory import KeyPlace, forget_key, put_key
from core.postgres.errors import NoAnswerError
from core.postgres.sessions import Connection

log = logging.getLogger(__name__)

MAX_WAITING_RENEWALS: Final = 5_000  # of further keys, the next use is waited for
MAX_RENEWED_AT_ONCE: Final = 100  # in a transaction, and so with one announcement an organization
# Shorter than PostgreSQL takes to look for a deadlock: an operator's change never fails for a
# renewal that holds what it needs.
LOCK_MILLISECONDS: Final = 200


class _Renewal(NamedTuple):
    """A key whose digest is to be the first of its digests."""

    digests: Digests
    organization_id: UUID


class KeyRenewal:
    """Renews digests in the background, of the keys that it is told of.

    It does nothing while another secret than the wanted one is in force. A failure is logged; the
    keys are renewed when they are used again.
    """

    def __init__(
        self,
        home: Database,
        database_of: Callable[[str], Awaitable[Database]],
        secrets: KeySecrets,
        clock: Clock,
    ) -> None:
        self._home = home
        self._database_of = database_of
        self._secrets = secrets
        self._failures = FailureLog(log, clock)
        self._waiting: dict[Digests, KeyPlace] = {}
        self._task: asyncio.Task[None] | None = None

    def add(self, digests: Digests, place: KeyPlace) -> None:
        """Have the digest of a key renewed soon."""
        if len(self._waiting) < MAX_WAITING_RENEWALS:
            self._waiting[digests] = place
            if self._task is None:
                self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._renew_some()
        finally:
            self._task = None

    async def _renew_some(self) -> None:
        of_cells: dict[str, list[_Renewal]] = {}
        for digests, place in list(itertools.islice(self._waiting.items(), MAX_RENEWED_AT_ONCE)):
            del self._waiting[digests]
            renewal = _Renewal(digests, place.organization_id)
            of_cells.setdefault(place.cell, []).append(renewal)
        for cell, renewals in of_cells.items():
            try:
                # In one order, so that servers never wait for each other in a circle.
                await self._renew(cell, sorted(renewals))
            except Exception as error:
                expected = isinstance(error, (IngestError, NoAnswerError))
                self._failures.note("digests of keys were not renewed", error, expected=expected)

    async def _renew(self, cell: str, renewals: Sequence[_Renewal]) -> None:
        within, check = self._home.within, self._secrets.wanted.check
        if await within(LOOKUP_SECONDS, _enter(self._home, cell, renewals, check)):
            database = await self._database_of(cell)
            await database.within(LOOKUP_SECONDS, _replace(database, renewals))
            await within(LOOKUP_SECONDS, _forget(self._home, renewals, check))


_BOUND: Final = f"SET LOCAL lock_timeout = '{LOCK_MILLISECONDS}ms'"
# Another secret comes into force before the transaction or after it.
_IS_IN_FORCE: Final = "SELECT FROM deployment WHERE key_secret_check = %s FOR SHARE"
_REPLACE: Final = "UPDATE api_keys SET digest = %s WHERE organization_id = %s AND digest = %s"


async def _enter(
    home: Database, cell: str, renewals: Sequence[_Renewal], check: bytes | None
) -> bool:
    async with home.transaction() as db:
        if not await _is_in_force(db, check):
            return False
        for renewal in renewals:
            await put_key(db, renewal.digests[0], renewal.organization_id, cell, check)
    return True


async def _is_in_force(db: Connection, check: bytes | None) -> bool:
    await db.execute(_BOUND)
    return await (await db.execute(_IS_IN_FORCE, (check,))).fetchone() is not None


async def _replace(database: Database, renewals: Sequence[_Renewal]) -> None:
    async with database.transaction() as db:
        await db.execute(_BOUND)
        for renewal in renewals:
            await _replace_one(db, renewal)


async def _replace_one(db: Connection, renewal: _Renewal) -> None:
    new, *others = renewal.digests
    for old in others:
        await db.execute(_REPLACE, (new, renewal.organization_id, old))


async def _forget(home: Database, renewals: Sequence[_Renewal], check: bytes | None) -> None:
    async with home.transaction() as db:
        if not await _is_in_force(db, check):
            return
        for renewal in renewals:
            for old in renewal.digests[1:]:
                await forget_key(db, old)
