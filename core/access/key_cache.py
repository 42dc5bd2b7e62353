"""The cache of callers by their keys: how long an entry is trusted, and what a change drops.

An operator's change is announced in the home database (core/access/invalidation.py). One in the
home cell is announced by the very transaction that makes it. One in another cell is announced
before and after: whoever announces it may be killed in between, so that the second announcement
never comes. For ``RESTLESS_SECONDS`` after an announcement the keys of its organization are
therefore trusted by their own age alone.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple
from uuid import UUID

from core.access.invalidation import Invalidation
from core.clock import Clock
from core.models import Caller
from core.postgres.directory import HOME

# An operator's change is promised to be in force within a second (contract section 4). A cached key
# may be this old, counted from when it was read or from the last proof that every change up to then
# was heard of.
MAX_KEY_AGE_SECONDS: Final = 0.8
MAX_CACHED_KEYS: Final = 50_000
# Unknown keys are cached apart, so that made-up keys cannot push out real ones.
MAX_CACHED_UNKNOWN_KEYS: Final = 5_000
# Longer than a change may take after its announcement, though its maker hangs meanwhile: 10 s for
# its statement, and 15 s in which its transaction may be left open.
RESTLESS_SECONDS: Final = 30.0
MAX_RESTLESS: Final = 10_000  # organizations; of more, all are restless


class CachedKey(NamedTuple):
    """A caller, or None for a key that nobody has, as read at ``read_at`` (monotonic seconds).

    ``is_announced``: every later change is sure to be announced after it has taken effect.
    """

    caller: Caller | None
    read_at: float
    is_announced: bool


class Reading(NamedTuple):
    """The beginning of a look-up: its time, and the number of changes heard of by then."""

    at: float
    changes_seen: int


class KeyCache:
    """Callers by the digests of their keys; it subscribes to the changes that are announced."""

    def __init__(self, changes: Invalidation, clock: Clock) -> None:
        self._changes = changes
        self._clock = clock
        self._known: OrderedDict[bytes, CachedKey] = OrderedDict()
        self._unknown: OrderedDict[bytes, CachedKey] = OrderedDict()
        self._known_by_organization: dict[UUID, set[bytes]] = {}
        self._once_known: OrderedDict[bytes, None] = OrderedDict()
        # A key that was read before a change is not cached after it.
        self._changes_seen = 0
        self._restless_until: OrderedDict[UUID, float] = OrderedDict()
        self._all_restless_until = float("-inf")
        changes.subscribe(self._forget)

    def trusted(self, key_digest: bytes) -> CachedKey | None:
        """The entry of a key; None if there is none or it is too old to be trusted."""
        cached = self._known.get(key_digest) or self._unknown.get(key_digest)
        if cached is None:
            return None
        as_of = cached.read_at
        if cached.is_announced:
            as_of = max(as_of, self._changes.heard_until)
        return cached if self._clock.monotonic() < as_of + MAX_KEY_AGE_SECONDS else None

    def last_caller(self, key_digest: bytes) -> Caller | None:
        """The caller that the key had when it was last read, however long ago that is."""
        cached = self._known.get(key_digest)
        return cached and cached.caller

    def was_known(self, key_digest: bytes) -> bool:
        """Whether somebody had the key when it was last read, be it before a change."""
        return key_digest in self._once_known

    def begin(self) -> Reading:
        """To be called before keys are read: a change announced meanwhile makes them old."""
        return Reading(self._clock.monotonic(), self._changes_seen)

    def remember(self, key_digest: bytes, caller: Caller | None, reading: Reading) -> None:
        """Cache what was read of a key, unless a change was announced since."""
        if reading.changes_seen != self._changes_seen:
            return
        self._drop(key_digest)
        entry = CachedKey(caller, reading.at, self._is_announced(caller, reading.at))
        if caller is None:
            self._once_known.pop(key_digest, None)
            self._unknown[key_digest] = entry
            if len(self._unknown) > MAX_CACHED_UNKNOWN_KEYS:
                self._unknown.popitem(last=False)
            return
        self._once_known[key_digest] = None
        self._once_known.move_to_end(key_digest)
        if len(self._once_known) > MAX_CACHED_KEYS:
            self._once_known.popitem(last=False)
        self._known[key_digest] = entry
        self._known_by_organization.setdefault(caller.organization_id, set()).add(key_digest)
        if len(self._known) > MAX_CACHED_KEYS:
            self._drop(next(iter(self._known)))

    def _is_announced(self, caller: Caller | None, read_at: float) -> bool:
        if caller is not None and caller.cell == HOME:
            return True
        while self._restless_until and next(iter(self._restless_until.values())) <= read_at:
            self._restless_until.popitem(last=False)
        if read_at < self._all_restless_until:
            return False
        # A key that nobody has may be on its way to any of the organizations.
        return (
            not self._restless_until
            if caller is None
            else (caller.organization_id not in self._restless_until)
        )

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
        restless_until = self._clock.monotonic() + RESTLESS_SECONDS
        if organization_id is None or len(self._restless_until) >= MAX_RESTLESS:
            self._restless_until.clear()
            self._all_restless_until = restless_until
        else:
            self._restless_until[organization_id] = restless_until
            self._restless_until.move_to_end(organization_id)
        if organization_id is None:
            self._known.clear()
            self._known_by_organization.clear()
            return
        for key_digest in self._known_by_organization.pop(organization_id, ()):
            self._known.pop(key_digest, None)
