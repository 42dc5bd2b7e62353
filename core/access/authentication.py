"""Authentication: the caller behind an Authorization value (contract section 4).

The directory at home tells by the digest of a key whose it is and in which cell; that cell tells
the rights. Callers are cached for less than a second, or for as long as every operator's change is
sure to be heard of (core/access/key_cache.py).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache, partial
from operator import attrgetter
from typing import Final, TypeVar

from core.access.api_keys import KEY_PATTERN
from core.access.callers import KeyOfOrganization, find_callers
from core.access.fair_queue import STRANGERS, Flow
from core.access.invalidation import Invalidation
from core.access.key_cache import KeyCache
from core.access.key_lookups import LOOKUP_SECONDS, KeyLookups
from core.access.key_renewal import KeyRenewal
from core.access.key_secrets import Digests, KeySecrets
from core.clock import Clock
from core.error_codes import ErrorCode
from core.errors import IngestError
from core.models import Caller
from core.postgres.database import Database
from core.postgres.directory import KeyPlace, find_keys
from core.postgres.sessions import Connection

T = TypeVar("T")

# A stream may go on for this long with the same caller. With the age that a cached key may have
# (core/access/key_cache.py) it is below the second in which a change is in force.
MAX_CALLER_AGE_SECONDS: Final = 0.1

MAX_DIGESTED_KEYS: Final = 4_096  # a digest takes longer than the look-up of a cached key

# RFC 6750: the scheme in any case, spaces, the token.
_BEARER: Final = re.compile(rf"[Bb][Ee][Aa][Rr][Ee][Rr] +({KEY_PATTERN})\Z")

# The database of a cell by the cell's name; raises IngestError if it is known to be away.
DatabaseOf = Callable[[str], Awaitable[Database]]


class Authenticator:
    """Finds the callers behind credentials; an operator's change takes effect within a second.

    All keys that wait are looked for in one query of the directory at ``home``. Their rights are
    read in each cell apart, so that a cell that does not answer delays the keys of no other.
    While the secret of the digests is changed, a key is looked for under both digests at once, and
    the one that is stored is renewed (core/access/key_renewal.py).
    """

    def __init__(
        self,
        home: Database,
        database_of: DatabaseOf,
        changes: Invalidation,
        clock: Clock,
        secrets: KeySecrets,
    ) -> None:
        self._home = home
        self._database_of = database_of
        self._clock = clock
        self._digests = lru_cache(MAX_DIGESTED_KEYS)(secrets.digests)
        self._cache = KeyCache(changes, clock)
        self._renewal = KeyRenewal(home, database_of, secrets, clock)
        # Keys that were known before a change are looked up apart from all others, so that made-up
        # keys take no turn from them.
        self._known_lookups = KeyLookups(self._read_places)
        self._stranger_lookups = KeyLookups(self._read_places)
        self._cell_lookups: dict[str, KeyLookups[KeyOfOrganization, Caller]] = {}

    async def authenticate(self, authorization: str | None) -> Caller:
        """The caller behind an Authorization value, if the key may be used now.

        Raises :class:`IngestError` in the order of contract section 4: ``missing_authorization``,
        ``invalid_key``, ``key_revoked``, ``key_expired``, ``plan_disabled``. Raises
        ``internal_error``, transient, if the home database or the cell does not answer within
        ``LOOKUP_SECONDS``.
        """
        caller = await self.identify(self.digests_of(authorization))
        self.check_usable(caller)
        return caller

    def digests_of(self, authorization: str | None) -> Digests:
        """The digests that the key in an Authorization value may have, known or not.

        Raises ``missing_authorization`` or ``invalid_key`` for a value without a key.
        """
        if authorization is None:
            raise IngestError(
                ErrorCode.MISSING_AUTHORIZATION,
                "Send your API key in the header 'Authorization: Bearer wp_live_…'.",
            )
        match = _BEARER.match(authorization)
        if match is None:
            raise IngestError(
                ErrorCode.INVALID_KEY,
                "The Authorization header is not 'Bearer ' and a key: wp_live_ and 32 lower-case "
                "hex digits.",
            )
        return self._digests(match[1])

    async def identify(self, digests: Digests) -> Caller:
        """The caller whose key has one of the digests, whether or not the key may be used now.

        Raises ``invalid_key`` or ``internal_error``, as :meth:`authenticate`.
        """
        cached = self._cache.trusted(digests[0])
        caller = await self._find(digests) if cached is None else cached.caller
        if caller is None:
            raise IngestError(ErrorCode.INVALID_KEY, "There is no such API key.")
        return caller

    def flow_of(self, digests: Digests) -> Flow:
        """The flow of a request: the organization of a cached key, or that of all strangers."""
        caller = self._cache.last_caller(digests[0])
        return caller.organization_id.int if caller else STRANGERS

    def was_known(self, digests: Digests) -> bool:
        """Whether somebody had the key when it was last read, be it before a change."""
        return self._cache.was_known(digests[0])

    def is_strangers(self, authorization: str | None) -> bool:
        """Whether there is no key, or nobody is known to have or to have had it."""
        try:
            digests = self.digests_of(authorization)
        except IngestError:
            return True
        return not self.was_known(digests) and self.flow_of(digests) == STRANGERS

    def recall(self, authorization: str) -> Caller | None:
        """The caller behind the Authorization value of a key if known without asking, or None."""
        cached = self._cache.trusted(self.digests_of(authorization)[0])
        return cached.caller if cached else None

    def check_usable(self, caller: Caller) -> None:
        """Raises ``key_revoked``, ``key_expired`` or ``plan_disabled`` if the key is not usable."""
        if caller.revoked:
            raise IngestError(ErrorCode.KEY_REVOKED, "This API key was revoked.")
        if caller.expires_us is not None and caller.expires_us <= self._clock.now_us():
            raise IngestError(ErrorCode.KEY_EXPIRED, "This API key has expired.")
        if not caller.developer_api:
            raise IngestError(
                ErrorCode.PLAN_DISABLED,
                "The organization's plan does not include the developer API.",
            )

    async def _find(self, digests: Digests) -> Caller | None:
        lookups = self._known_lookups if self.was_known(digests) else self._stranger_lookups
        place = await lookups.find(digests)
        if place is None:
            return None
        if (in_cell := self._cell_lookups.get(place.cell)) is None:
            in_cell = KeyLookups(partial(self._read_callers, place.cell))
            self._cell_lookups[place.cell] = in_cell
        caller = await in_cell.find(KeyOfOrganization(place.organization_id, digests))
        if caller is not None and not place.is_current:
            self._renewal.add(digests, place)
        return caller

    async def _read_places(self, wanted: Sequence[Digests]) -> Mapping[Digests, KeyPlace]:
        reading = self._cache.begin()
        every = [one for digests in wanted for one in digests]
        entries = await _ask(self._home, partial(find_keys, digests=every))
        found: dict[Digests, KeyPlace] = {}
        for digests in wanted:
            places = [entries[one] for one in digests if one in entries]
            if places:
                # A renewal that was interrupted has left both entries.
                found[digests] = min(places, key=attrgetter("is_current"))
            else:
                self._cache.remember(digests[0], None, reading)
        return found

    async def _read_callers(
        self, cell: str, wanted: Sequence[KeyOfOrganization]
    ) -> Mapping[KeyOfOrganization, Caller]:
        database = await self._database_of(cell)
        reading = self._cache.begin()
        found = await _ask(database, partial(find_callers, cell=cell, wanted=wanted))
        for key in wanted:
            self._cache.remember(key.digests[0], found.get(key), reading)
        return found


async def _ask(database: Database, query: Callable[[Connection], Awaitable[T]]) -> T:
    async def answer() -> T:
        async with database.connection() as db:
            return await query(db)

    try:
        return await database.within(LOOKUP_SECONDS, answer())
    except IngestError:
        # A pooled connection may have died unnoticed; the requests must not fail for it.
        await database.discard_stale()
        return await database.within(LOOKUP_SECONDS, answer())
