"""A revocation in another cell than home is heard, though its maker is killed meanwhile."""

from __future__ import annotations

import time

import grpc
import pytest

from core.access import key_cache
from core.access.key_cache import KeyCache
from tests.support.cells import add_cell, announce, make_tenant_in
from tests.support.driver import Driver
from tests.support.grpc_driver import GrpcDriver
from tests.support.http_driver import HttpDriver
from tests.support.running_service import RunningService
from tests.support.stream_client import Stream
from tests.support.waiting import IN_FORCE_SECONDS, eventually


@pytest.fixture
def caches(monkeypatch: pytest.MonkeyPatch) -> list[KeyCache]:
    """The caches that are made from now on; the time after an announcement is short."""
    made: list[KeyCache] = []
    make = KeyCache.__init__

    def noted(cache: KeyCache, *arguments: object) -> None:
        made.append(cache)
        make(cache, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(KeyCache, "__init__", noted)
    monkeypatch.setattr(key_cache, "RESTLESS_SECONDS", 3.0)
    return made


@pytest.mark.anyio
@pytest.mark.timed
@pytest.mark.parametrize("is_killed", [False, True], ids=["announced again", "killed between"])
async def test_a_revocation_in_another_cell_is_heard_within_a_second(
    database_url: str, caches: list[KeyCache], is_killed: bool
) -> None:
    tenant = await make_tenant_in(await add_cell(database_url, "west"), database_url)
    with RunningService(database_url) as service:
        drivers: list[Driver] = [
            HttpDriver(service.addresses.http),
            grpc_driver := GrpcDriver(service.addresses.grpc),
        ]
        stream = Stream(grpc_driver.channel, tenant.key)
        await stream.send()
        await stream.ack()
        (cache,) = caches

        async def is_trusted_by_hearing() -> bool:
            assert (await drivers[0].ping(tenant.key)).code is None
            return all(entry.is_announced for entry in cache._known.values())

        await eventually(is_trusted_by_hearing, "the key is not read again and again")
        await announce(database_url, tenant.organization.id)
        for driver in drivers:  # read and cached between the announcement and the change
            assert (await driver.ping(tenant.key)).code is None
        await tenant.revoke()
        revoked = time.monotonic()
        if not is_killed:
            await announce(database_url, tenant.organization.id)
        for driver in drivers:

            async def is_revoked(driver: Driver = driver) -> bool:
                return (await driver.ping(tenant.key)).code == "key_revoked"

            left = revoked + IN_FORCE_SECONDS - time.monotonic()
            await eventually(is_revoked, "the revocation is in force", seconds=left)
        end = await stream.end(seconds=IN_FORCE_SECONDS)
        assert (end.status, end.reason) == (grpc.StatusCode.UNAUTHENTICATED, "KEY_REVOKED")
        for driver in drivers:
            await driver.close()
