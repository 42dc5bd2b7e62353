"""How long a cached key is trusted, by the cell that its organization lives in."""

from __future__ import annotations

from uuid import UUID

import msgspec
import pytest

from core.access import key_cache
from core.access.invalidation import Invalidation
from core.access.key_cache import MAX_KEY_AGE_SECONDS, RESTLESS_SECONDS, KeyCache
from core.models import Caller
from core.postgres.database import Database
from tests.support.manual_time import ManualTime
from tests.support.strategies import CALLER

pytestmark = pytest.mark.anyio

HERE, THERE = b"at home", b"in another cell"
OF_HERE = CALLER
OF_THERE = msgspec.structs.replace(CALLER, cell="west", organization_id=UUID(int=9))


class Cache:
    """A cache that hears of changes from the test; its time stands still."""

    def __init__(self) -> None:
        self.time = ManualTime()
        self.changes = Invalidation(Database(""), self.time.clock)  # never run
        self.keys = KeyCache(self.changes, self.time.clock)

    def announce(self, organization_id: UUID | None) -> None:
        self.changes._publish(organization_id)

    def read(self, *found: tuple[bytes, Caller | None]) -> None:
        reading = self.keys.begin()
        for key, caller in found:
            self.keys.remember(key, caller, reading)

    def still_trusted_after(self, seconds: float) -> set[bytes]:
        """The keys that are trusted then, every announcement having been heard."""
        self.time.advance(seconds)
        self.changes.heard_until = self.time.clock.monotonic()
        return {key for key in (HERE, THERE, b"nobody's") if self.keys.trusted(key)}


@pytest.fixture
async def cache() -> Cache:
    return Cache()


async def test_keys_of_every_cell_are_trusted_while_changes_are_heard(cache: Cache) -> None:
    cache.read((HERE, OF_HERE), (THERE, OF_THERE), (b"nobody's", None))
    assert cache.still_trusted_after(1_000) == {HERE, THERE, b"nobody's"}


async def test_after_an_announcement_a_key_of_another_cell_is_trusted_by_its_age(
    cache: Cache,
) -> None:
    """Its change may come after the announcement, and whoever makes it may be killed then."""
    for seconds in (0.0, RESTLESS_SECONDS / 2):
        cache.announce(OF_THERE.organization_id)
        cache.announce(OF_HERE.organization_id)
        cache.time.advance(seconds)
        cache.read((HERE, OF_HERE), (THERE, OF_THERE), (b"nobody's", None))
        assert cache.still_trusted_after(MAX_KEY_AGE_SECONDS / 2) == {HERE, THERE, b"nobody's"}
        assert cache.still_trusted_after(MAX_KEY_AGE_SECONDS) == {HERE}


async def test_what_is_read_in_the_time_after_an_announcement_is_not_trusted_when_it_is_over(
    cache: Cache,
) -> None:
    cache.announce(OF_THERE.organization_id)
    cache.time.advance(RESTLESS_SECONDS - MAX_KEY_AGE_SECONDS / 4)
    cache.read((THERE, OF_THERE))
    assert cache.still_trusted_after(MAX_KEY_AGE_SECONDS / 2) == {THERE}
    assert cache.still_trusted_after(MAX_KEY_AGE_SECONDS) == set()
    cache.read((THERE, OF_THERE))
    assert cache.still_trusted_after(1_000) == {THERE}


async def test_a_key_was_known_until_it_is_found_to_be_nobodys(cache: Cache) -> None:
    cache.read((HERE, OF_HERE))
    cache.announce(None)
    assert cache.keys.was_known(HERE)
    cache.read((HERE, None))
    assert not cache.keys.was_known(HERE)


async def test_an_announcement_concerns_its_organization_alone(cache: Cache) -> None:
    cache.announce(UUID(int=77))
    cache.read((HERE, OF_HERE), (THERE, OF_THERE))
    assert cache.still_trusted_after(1_000) == {HERE, THERE}


@pytest.mark.parametrize("is_one_too_many", [False, True])
async def test_all_keys_of_other_cells_are_restless_after_a_connection(
    cache: Cache, is_one_too_many: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An announcement may have come before it; or there were more than are told apart."""
    if is_one_too_many:
        monkeypatch.setattr(key_cache, "MAX_RESTLESS", 2)
        for number in range(100, 103):
            cache.announce(UUID(int=number))
    else:
        cache.announce(None)
    cache.read((HERE, OF_HERE), (THERE, OF_THERE))
    assert cache.still_trusted_after(MAX_KEY_AGE_SECONDS * 2) == {HERE}
    cache.time.advance(RESTLESS_SECONDS)
    cache.read((THERE, OF_THERE))
    assert cache.still_trusted_after(1_000) == {HERE, THERE}
