"""Rate limits: two buckets charged together or not at all, and what a refusal says of them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.behaviour.conftest import Connect
from tests.behaviour.examples import CALLS, broken
from tests.support.driver import Driver
from tests.support.http_driver import HttpDriver
from tests.support.manual_time import TimedService
from tests.support.tenant import UNKNOWN_KEY, Tenant, event

pytestmark = pytest.mark.anyio


@pytest.fixture
async def client(connect: Connect, timed_service: TimedService) -> Driver:
    """A client of the service whose time stands still."""
    return connect(timed_service.addresses)


@pytest.fixture
async def timed_http(timed_service: TimedService) -> AsyncIterator[HttpDriver]:
    """A client of its REST API, whose answers carry the budget."""
    driver = HttpDriver(timed_service.addresses.http)
    yield driver
    await driver.close()


async def passed(client: Driver, tenant: Tenant, most: int = 1_000) -> int:
    """How many requests pass before one is refused."""
    for count in range(most):
        if (await client.ping(tenant.key)).code == "rate_limited":
            return count
    return most


async def test_a_bucket_holds_one_second_and_refills_continuously(
    client: Driver, timed_service: TimedService
) -> None:
    tenant = await timed_service.tenant(key_requests_per_second=4)
    assert await passed(client, tenant) == 4
    timed_service.time.advance(0.125)
    assert await passed(client, tenant) == 0
    timed_service.time.advance(0.125)
    assert await passed(client, tenant) == 1
    timed_service.time.advance(0.5)
    assert await passed(client, tenant) == 2
    timed_service.time.advance(3_600)
    assert await passed(client, tenant) == 4  # no more than a second's worth


async def test_every_request_costs_a_token_whatever_it_brings(
    client: Driver, timed_service: TimedService
) -> None:
    tenant = await timed_service.tenant(key_requests_per_second=5)
    for call in CALLS.values():
        assert (await call(client, tenant.key)).code is None
    assert (await client.ingest(tenant.key, [event()] * 500)).code is None
    assert (await client.ingest(tenant.key, [broken("invalid_body")])).code == "invalid_body"
    for call in CALLS.values():
        assert (await call(client, tenant.key)).code == "rate_limited"


async def test_a_limited_request_is_refused_before_its_body_is_judged(
    client: Driver, timed_service: TimedService
) -> None:
    tenant = await timed_service.tenant(key_requests_per_second=1)
    await client.ping(tenant.key)
    assert (await client.ingest(tenant.key, [event()] * 501)).code == "rate_limited"
    assert (await client.ingest(tenant.key, [])).code == "rate_limited"


async def test_keys_have_buckets_of_their_own(client: Driver, timed_service: TimedService) -> None:
    tenant = await timed_service.tenant(key_requests_per_second=2)
    other = await tenant.another_key(requests_per_second=3)
    assert await passed(client, tenant) == 2
    assert await passed(client, other) == 3
    assert await passed(client, tenant) == 0


async def test_the_organizations_limit_is_shared_by_its_keys(
    client: Driver, timed_service: TimedService
) -> None:
    tenant = await timed_service.tenant(requests_per_second=5, key_requests_per_second=4)
    other = await tenant.another_app()
    stranger = await timed_service.tenant(key_requests_per_second=4)
    assert await passed(client, tenant) == 4
    assert await passed(client, other) == 1
    assert await passed(client, stranger) == 4


async def test_the_message_says_whose_limit_it_was(
    client: Driver, timed_service: TimedService
) -> None:
    tenant = await timed_service.tenant(requests_per_second=3, key_requests_per_second=2)
    other = await tenant.another_key()
    await passed(client, tenant)
    refused = await client.ping(tenant.key)
    assert "key's rate limit of 2" in refused.message
    await passed(client, other)
    refused = await client.ping(other.key)
    assert "organization's rate limit of 3" in refused.message


async def test_a_refused_request_takes_no_token_from_either(
    client: Driver, timed_service: TimedService
) -> None:
    tenant = await timed_service.tenant(requests_per_second=8, key_requests_per_second=4)
    other = await tenant.another_key(requests_per_second=6)
    assert await passed(client, tenant) == 4
    for _ in range(20):  # by the key: the organization keeps its 4
        assert (await client.ping(tenant.key)).code == "rate_limited"
    assert await passed(client, other) == 4
    for _ in range(20):  # by the organization: the other key keeps its 2
        assert (await client.ping(other.key)).code == "rate_limited"
    timed_service.time.advance(0.125)  # 1 for the organization, 0.75 for the other key
    assert await passed(client, other) == 1


async def test_after_the_time_it_names_a_request_passes(
    client: Driver, timed_service: TimedService
) -> None:
    for rates in ({"key_requests_per_second": 1}, {"requests_per_second": 1}):
        tenant = await timed_service.tenant(**rates)
        await client.ping(tenant.key)
        timed_service.time.advance(0.25)
        wait = (await client.ping(tenant.key)).retry_after_seconds
        assert wait is not None
        assert 0.75 <= wait <= 1
        timed_service.time.advance(wait)
        assert (await client.ping(tenant.key)).code is None


async def test_the_defaults_are_60_and_600(client: Driver, timed_service: TimedService) -> None:
    tenant = await timed_service.tenant(requests_per_second=None, key_requests_per_second=None)
    assert await passed(client, tenant) == 60
    fast = await tenant.another_key()
    assert await passed(client, fast) == 540


async def test_the_budget_is_on_every_answer(
    timed_http: HttpDriver, timed_service: TimedService
) -> None:
    tenant = await timed_service.tenant(key_requests_per_second=7, monthly_quota=2)
    replies = [
        await timed_http.ping(tenant.key),
        await timed_http.ingest(tenant.key, [event(), broken("invalid_body")]),  # 207
        await timed_http.ingest(tenant.key, []),
        await timed_http.ingest(tenant.key, [broken("forbidden_event_type")]),
        await timed_http.ingest(tenant.key, [event()] * 501),
        await timed_http.post("snapshots", tenant.key, b"{"),
        await timed_http.ingest(tenant.key, [event()] * 2),
        await timed_http.ping(tenant.key),
    ]
    assert [reply.rate_limit for reply in replies] == [7] * 8
    assert [reply.rate_remaining for reply in replies] == [6, 5, 4, 3, 2, 1, 0, 0]
    assert replies[-1].code == "rate_limited"
    timed_service.time.advance(0.5)
    assert (await timed_http.ping(tenant.key)).rate_remaining == 2  # 3.5 less one


async def test_the_budget_is_the_keys_even_if_the_organization_is_the_limit(
    timed_http: HttpDriver, timed_service: TimedService
) -> None:
    tenant = await timed_service.tenant(requests_per_second=1, key_requests_per_second=7)
    replies = [await timed_http.ping(tenant.key) for _ in range(2)]
    assert [(reply.code, reply.rate_remaining) for reply in replies] == [
        (None, 6),
        ("rate_limited", 6),
    ]


@pytest.mark.parametrize("state", ["revoked", "expired", "plan"])
async def test_the_budget_of_a_known_key_that_may_not_be_used(
    timed_http: HttpDriver, timed_service: TimedService, state: str
) -> None:
    tenant = await timed_service.tenant(key_requests_per_second=7, developer_api=state != "plan")
    if state == "revoked":
        await tenant.revoke()
    if state == "expired":
        await tenant.expire()
        timed_service.time.advance(60)
    reply = await timed_http.ping(tenant.key)
    assert reply.code in {"key_revoked", "key_expired", "plan_disabled"}
    assert (reply.rate_limit, reply.rate_remaining) == (7, 7)


async def test_an_unknown_key_has_no_budget(timed_http: HttpDriver) -> None:
    for key in (None, UNKNOWN_KEY):
        reply = await timed_http.ping(key)
        assert (reply.rate_limit, reply.rate_remaining) == (None, None)
