"""Authentication: the caller behind an Authorization value (contract section 4).

Callers are read from the database by the digest of their key and cached for less than a second,
or for as long as every operator's change is sure to be heard of (core/access/invalidation.py).
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple
from uuid import UUID

from core.access.api_keys import KEY_PATTERN, digest
from core.access.fair_queue import STRANGERS, Flow
from core.access.invalidation import Invalidation
from core.access.key_lookups import LOOKUP_SECONDS, KeyLookups
from core.clock import Clock
from core.error_codes import ErrorCode
from core.errors import IngestError
from core.models import Caller
from core.postgres.database import Database
from core.postgres.sessions import Connection
from core.timestamps import from_datetime

# An operator's change is promised to be in force within a second (contract section 4). A cached key
# may be this old, counted from when it was read or from the last proof that every change up to then
# was heard of.
MAX_KEY_AGE_SECONDS: Final = 0.8
# A stream may go on for this long with the same caller. Both ages together are below the second.
MAX_CALLER_AGE_SECONDS: Final = 0.1
MAX_CACHED_KEYS: Final = 50_000
# Unknown keys are cached apart, so that made-up keys cannot push out real ones.
MAX_CACHED_UNKNOWN_KEYS: Final = 5_000

# RFC 6750: the scheme in any case, spaces, the token.
_BEARER: Final = re.compile(rf"[Bb][Ee][Aa][Rr][Ee][Rr] +({KEY_PATTERN})\Z")

_FIND_KEYS: Final = """
SELECT k.digest, k.id, k.organization_id, k.app_id, a.slug, a.name, o.developer_api,
    a.allowed_event_types, k.requests_per_second, o.requests_per_second,
    k.revoked_at IS NOT NULL, k.expires_at
FROM api_keys k
JOIN apps a ON a.organization_id = k.organization_id AND a.id = k.app_id
JOIN organizations o ON o.id = k.organization_id
WHERE k.digest = ANY(%s)
"""


async def find_caller(db: Connection, key_digest: bytes) -> Caller | None:
    """The caller whose key has this digest, usable or not; None if there is no such key."""
    return (await find_callers(db, [key_digest])).get(key_digest)


async def find_callers(db: Connection, key_digests: Sequence[bytes]) -> Mapping[bytes, Caller]:
    """As :func:`find_caller`, of many keys: the callers that there are, by their digests."""
    found: dict[bytes, Caller] = {}
    for row in await (await db.execute(_FIND_KEYS, (list(key_digests),))).fetchall():
        key_digest, *identity, allowed, key_rate, organization_rate, revoked, expires_at = row
        expires_us = None if expires_at is None else from_datetime(expires_at)
        rights = (frozenset(allowed), key_rate, organization_rate, revoked, expires_us)
        found[key_digest] = Caller(*(*identity, *rights))
    return found


class _CachedKey(NamedTuple):
    caller: Caller | None
    read_at: float  # monotonic seconds


class Authenticator:
    """Finds the callers behind credentials; an operator's change takes effect within a second.

    ``secret`` keys the digests (:func:`core.access.api_keys.deployment_secret`).
    """

    def __init__(
        self, database: Database, changes: Invalidation, clock: Clock, secret: bytes
    ) -> None:
        self._database = database
        self._changes = changes
        self._clock = clock
        self._secret = secret
        self._known: OrderedDict[bytes, _CachedKey] = OrderedDict()
        self._unknown: OrderedDict[bytes, _CachedKey] = OrderedDict()
        self._known_by_organization: dict[UUID, set[bytes]] = {}
        # Keys that were known before a change are looked up apart from all others, so that made-up
        # keys take no turn from them.
        self._once_known: OrderedDict[bytes, None] = OrderedDict()
        self._known_lookups = KeyLookups(self._read)
        self._stranger_lookups = KeyLookups(self._read)
        # A key that was read before a change is not cached after it.
        self._changes_seen = 0
        changes.subscribe(self._forget)

    async def authenticate(self, authorization: str | None) -> Caller:
        """The caller behind an Authorization value, if the key may be used now.

        Raises :class:`IngestError` in the order of contract section 4: ``missing_authorization``,
        ``invalid_key``, ``key_revoked``, ``key_expired``, ``plan_disabled``. Raises
        ``internal_error``, transient, if the database does not answer within
        ``LOOKUP_SECONDS``.
        """
        caller = await self.identify(self.digest_of(authorization))
        self.check_usable(caller)
        return caller

    def digest_of(self, authorization: str | None) -> bytes:
        """The digest of the key in an Authorization value, known or not.

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
        return digest(match[1], self._secret)

    async def identify(self, key_digest: bytes) -> Caller:
        """The caller whose key has this digest, whether or not the key may be used now.

        Raises ``invalid_key`` or ``internal_error``, as :meth:`authenticate`.
        """
        cached = self._trusted(key_digest)
        caller = await self._find(key_digest) if cached is None else cached.caller
        if caller is None:
            raise IngestError(ErrorCode.INVALID_KEY, "There is no such API key.")
        return caller

    def flow_of(self, key_digest: bytes) -> Flow:
        """The flow of a request: the organization of a cached key, or that of all strangers."""
        cached = self._known.get(key_digest)
        caller = cached and cached.caller
        return caller.organization_id.int if caller else STRANGERS

    def recall(self, authorization: str) -> Caller | None:
        """The caller behind the Authorization value of a key if known without asking, or None."""
        cached = self._trusted(self.digest_of(authorization))
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

    def _trusted(self, key_digest: bytes) -> _CachedKey | None:
        """The cache's entry of a key; None if there is none or it is too old to be trusted."""
        cached = self._known.get(key_digest) or self._unknown.get(key_digest)
        if cached is None:
            return None
        trusted_until = max(cached.read_at, self._changes.heard_until) + MAX_KEY_AGE_SECONDS
        return cached if self._clock.monotonic() < trusted_until else None

    async def _find(self, key_digest: bytes) -> Caller | None:
        known = key_digest in self._once_known
        return await (self._known_lookups if known else self._stranger_lookups).find(key_digest)

    async def _read(self, key_digests: Sequence[bytes]) -> Mapping[bytes, Caller]:
        # Taken before reading: a change that is announced meanwhile makes the entries old.
        read_at = self._clock.monotonic()
        changes_seen = self._changes_seen
        try:
            found = await self._database.within(LOOKUP_SECONDS, self._query(key_digests))
        except IngestError:
            # A pooled connection may have died unnoticed; the requests must not fail for it.
            await self._database.discard_stale()
            found = await self._database.within(LOOKUP_SECONDS, self._query(key_digests))
        if changes_seen == self._changes_seen:
            for key_digest in key_digests:
                self._remember(key_digest, _CachedKey(found.get(key_digest), read_at))
        return found

    async def _query(self, key_digests: Sequence[bytes]) -> Mapping[bytes, Caller]:
        async with self._database.connection() as db:
            return await find_callers(db, key_digests)

    def _remember(self, key_digest: bytes, entry: _CachedKey) -> None:
        self._drop(key_digest)
        if entry.caller is None:
            self._unknown[key_digest] = entry
            if len(self._unknown) > MAX_CACHED_UNKNOWN_KEYS:
                self._unknown.popitem(last=False)
            return
        self._once_known[key_digest] = None
        self._once_known.move_to_end(key_digest)
        if len(self._once_known) > MAX_CACHED_KEYS:
            self._once_known.popitem(last=False)
        self._known[key_digest] = entry
        self._known_by_organization.setdefault(entry.caller.organization_id, set()).add(key_digest)
        if len(self._known) > MAX_CACHED_KEYS:
            self._drop(next(iter(self._known)))

    def _drop(self, key_digest: bytes) -> None:
        self._unknown.pop(key_digest, None)
        entry = self._known.pop(key_digest, None)
        if entry is not None and entry.caller is not None:
            siblings = self._known_by_organization[entry.caller.organization_id]
            siblings.discard(key_digest)
            if not siblings:
                del self._known_by_organization[entry.caller.organization_id]

    def _forget(self, organization_id: UUID | None) -> None:
        """Drop an organization's keys, or all; and the unknown keys, which may exist now."""
        self._changes_seen += 1
        self._unknown.clear()
        if organization_id is None:
            self._known.clear()
            self._known_by_organization.clear()
            return
        for key_digest in self._known_by_organization.pop(organization_id, ()):
            self._known.pop(key_digest, None)
