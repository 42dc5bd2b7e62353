"""The store of rates on a real server: arithmetic as of ``OwnBuckets``, errors with reasons."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from uuid import UUID

import pytest
from redis import Redis

from core.access.rate_limits import BURST_SECONDS, OwnBuckets
from core.access.rate_store import EXPIRY_SECONDS, RateStore
from core.access.shared_rates import Charge, Charged, StoreAwayError, StoreRefusedError
from tests.support.certificates import Certificates, needs_openssl
from tests.support.redis_server import NEEDS_REDIS, RedisServer, redis_server
from tests.support.tcp_proxy import TcpProxy

pytestmark = [pytest.mark.anyio, NEEDS_REDIS]

KEY, ORGANIZATION = UUID(int=1), UUID(int=2)
KEY_BUCKET = f"wepeople:rate:key:{KEY}"
ORGANIZATION_BUCKET = f"wepeople:rate:organization:{ORGANIZATION}"
PASSWORD = "a password with @ and /"
PASSWORD_IN_URL = "a%20password%20with%20%40%20and%20%2F"


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def inside(server: RedisServer) -> Iterator[Redis]:
    """A look into the server, which is empty at first."""
    with Redis(port=server.port, decode_responses=True) as client:
        client.flushall()
        yield client


@pytest.fixture
async def store(server: RedisServer, inside: Redis) -> AsyncIterator[RateStore]:
    store = RateStore(server.url)
    await store.open()
    yield store
    await store.close()


def charge(wanted: int = 1, key_rate: int = 10, organization_rate: int = 15) -> Charge:
    return Charge(KEY, key_rate, ORGANIZATION, organization_rate, wanted)


def held(inside: Redis, bucket: str) -> tuple[float, float]:
    """The tokens of a bucket, and the store's time when they were counted."""
    tokens, updated = str(inside.get(bucket)).split()
    return float(tokens), float(updated)


def charge_model(model: OwnBuckets, one: Charge, now: float) -> Charged:
    """The same in a process's own buckets, request by request."""
    granted, tokens = 0, [0.0, 0.0]
    owners = ((one.key_id, one.key_rate), (one.organization_id, one.organization_rate))
    for _ in range(one.wanted + 1):
        tokens = [model.fill(owner, rate, now) for owner, rate in owners]
        if granted == one.wanted or min(tokens) < 1:
            break
        for owner, _rate in owners:
            model.take(owner)
        granted += 1
    return Charged(granted, *tokens)


async def test_it_counts_as_own_buckets_do(store: RateStore, inside: Redis) -> None:
    model = OwnBuckets()
    rng = random.Random(4)
    for _ in range(150):
        one = charge(rng.randrange(6), rng.choice([20, 20, 40]), 60)
        (charged,) = await store.charge([one])
        _, now = held(inside, KEY_BUCKET)
        expected = charge_model(model, one, now)
        assert charged.granted == expected.granted
        assert charged[1:] == pytest.approx(expected[1:], abs=1e-6)
        await asyncio.sleep(rng.choice([0, 0.001, 0.03]))


async def test_both_buckets_are_charged_or_none(store: RateStore) -> None:
    other = charge(4)._replace(key_id=UUID(int=9))
    first, second, third = await store.charge([charge(12), other, other])
    assert (first.granted, second.granted, third.granted) == (10, 4, 1)
    assert third.organization_tokens < 1
    assert int(third.key_tokens) == 5  # of its ten; what was refused took nothing


async def test_the_store_forgets_buckets_that_are_full_again(
    store: RateStore, inside: Redis
) -> None:
    await store.charge([charge(10)])
    for bucket in (KEY_BUCKET, ORGANIZATION_BUCKET):
        expiry_ms = inside.pttl(bucket)
        assert isinstance(expiry_ms, int)
        assert BURST_SECONDS * 1_000 < expiry_ms <= EXPIRY_SECONDS * 1_000


async def test_a_clock_that_was_set_back_gives_nothing_and_takes_nothing(
    store: RateStore, inside: Redis
) -> None:
    inside.set(KEY_BUCKET, f"3.5 {time.time() + 3_600}")
    (charged,) = await store.charge([charge(5)])
    assert (charged.granted, charged.key_tokens) == (3, 0.5)
    tokens, updated = held(inside, KEY_BUCKET)
    assert tokens == 0.5
    assert updated < time.time() + 60  # it refills from now on


async def test_a_lower_rate_is_in_force_at_once(store: RateStore) -> None:
    await store.charge([charge(0)])
    (charged,) = await store.charge([charge(10, key_rate=3)])
    assert charged.granted == 3


async def test_services_count_together(
    store: RateStore, server: RedisServer, inside: Redis
) -> None:
    other = RateStore(server.url)
    (one,) = await store.charge([charge(6)])
    _, then = held(inside, KEY_BUCKET)
    (another,) = await other.charge([charge(6)])
    _, now = held(inside, KEY_BUCKET)
    await other.close()
    refilled = (now - then) * charge().key_rate
    assert (one.granted, another.granted) == (6, min(6, int(4 + refilled)))


async def test_a_server_that_does_not_know_the_script_is_given_it(
    store: RateStore, inside: Redis
) -> None:
    inside.script_flush()
    (charged,) = await store.charge([charge()])
    assert charged.granted == 1
    assert inside.info("commandstats")["cmdstat_eval"]["calls"] >= 1


async def test_a_password_may_have_any_character() -> None:
    with redis_server(PASSWORD) as server:
        store = RateStore(f"redis://:{PASSWORD_IN_URL}@127.0.0.1:{server.port}/3")
        await store.open()
        (charged,) = await store.charge([charge()])
        await store.close()
    assert charged.granted == 1


@pytest.mark.parametrize("url", ["valkey://127.0.0.1:{}", "valkey://:sesame@127.0.0.1:{}"])
async def test_a_wrong_password_is_a_refusal_that_does_not_show_it(url: str) -> None:
    with redis_server(PASSWORD) as server:
        store = RateStore(url.format(server.port))
        with pytest.raises(StoreRefusedError) as refused:
            await store.open()
        await store.close()
    assert "sesame" not in str(refused.value)


async def test_a_database_that_is_not_there_is_a_refusal(server: RedisServer) -> None:
    store = RateStore(f"{server.url}/99")
    with pytest.raises(StoreRefusedError, match="out of range"):
        await store.open()
    await store.close()


async def test_a_server_that_cannot_be_written_is_found_when_it_is_opened(
    server: RedisServer, inside: Redis
) -> None:
    inside.config_set("maxmemory", 1)
    store = RateStore(server.url)
    try:
        with pytest.raises(StoreAwayError, match="maxmemory"):
            await store.open()
    finally:
        inside.config_set("maxmemory", 0)
        await store.close()


async def test_a_lost_connection_is_told_and_can_be_opened_again(server: RedisServer) -> None:
    async with TcpProxy(f"127.0.0.1:{server.port}") as proxy:
        store = RateStore(f"valkey://{proxy.address}")
        await store.open()
        proxy.cut()
        with pytest.raises(StoreAwayError):
            await store.charge([charge()])
        await store.close()
        await store.open()
        assert len(await store.charge([charge()])) == 1
        await store.close()


@needs_openssl
@pytest.mark.parametrize(
    ("authority", "trusted"), [("authority.pem", True), ("stranger-authority.pem", False)]
)
async def test_over_tls_the_servers_certificate_is_checked(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch, authority: str, trusted: bool
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates[authority]))
    with redis_server(PASSWORD, certificates) as server:
        store = RateStore(server.url)
        if trusted:
            await store.open()
            assert len(await store.charge([charge()])) == 1
        else:
            with pytest.raises(StoreAwayError, match="certificate"):
                await store.open()
        await store.close()


async def test_nobody_there_is_away(server: RedisServer) -> None:
    store = RateStore("valkey://127.0.0.1:1")
    with pytest.raises(StoreAwayError) as away:
        await store.open()
    assert not isinstance(away.value, StoreRefusedError)
    await store.close()
