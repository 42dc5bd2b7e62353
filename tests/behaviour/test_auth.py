"""Callers: how they are judged, in which order, and how soon an operator's change is in force."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from core.timestamps import to_datetime
from tests.behaviour.conftest import Connect
from tests.behaviour.examples import CALLS, within_a_second
from tests.conftest import MakeTenant
from tests.support.driver import Driver, Reply
from tests.support.manual_time import TimedService
from tests.support.tenant import FAST, UNKNOWN_KEY, Tenant, event, now_us

pytestmark = pytest.mark.anyio

Call = Callable[[Driver, str | None], Awaitable[Reply]]


@pytest.fixture(params=list(CALLS))
def call(request: pytest.FixtureRequest) -> Call:
    """Each method in turn."""
    return CALLS[request.param]


async def test_a_request_without_credential_is_refused(driver: Driver, call: Call) -> None:
    assert (await call(driver, None)).code == "missing_authorization"


async def test_an_unknown_key_is_refused(driver: Driver, call: Call) -> None:
    assert (await call(driver, UNKNOWN_KEY)).code == "invalid_key"


@pytest.mark.parametrize(
    "change",
    [
        lambda key: key[:8],
        lambda key: key[:-1],
        lambda key: key + "0",
        lambda key: key.upper(),
        lambda key: key.removeprefix("wp_live_"),
        lambda key: key.replace("live", "test"),
        lambda key: f"{key} {key}",
        lambda key: key[:8] + "g" * 32,
    ],
    ids=["empty", "short", "long", "upper", "bare", "prefix", "two", "not-hex"],
)
async def test_a_malformed_key_is_refused(
    driver: Driver, tenant: Tenant, change: Callable[[str], str]
) -> None:
    assert (await driver.ping(change(tenant.key))).code == "invalid_key"


async def test_a_refusal_names_no_key(driver: Driver, tenant: Tenant) -> None:
    await tenant.revoke()
    for key in (UNKNOWN_KEY, tenant.key, tenant.key + "0"):
        reply = await driver.ping(key)
        assert reply.code in {"invalid_key", "key_revoked"}
        assert key[8:] not in repr(reply)


async def test_a_revoked_key_is_refused(driver: Driver, tenant: Tenant, call: Call) -> None:
    await tenant.revoke()
    assert (await call(driver, tenant.key)).code == "key_revoked"


async def test_a_key_expires_at_its_microsecond(
    connect: Connect, timed_service: TimedService, call: Call
) -> None:
    expires_us = timed_service.time.now_us + 3_600_000_000
    tenant = await timed_service.tenant(expires_us=expires_us)
    client = connect(timed_service.addresses)
    timed_service.time.advance_to(expires_us - 1)
    assert (await call(client, tenant.key)).code is None
    timed_service.time.advance_to(expires_us)
    assert (await call(client, tenant.key)).code == "key_expired"


async def test_a_plan_without_developer_api_is_refused(
    driver: Driver, new_tenant: MakeTenant, call: Call
) -> None:
    tenant = await new_tenant(developer_api=False)
    assert (await call(driver, tenant.key)).code == "plan_disabled"


async def test_checks_of_the_caller_come_in_order(
    connect: Connect, timed_service: TimedService
) -> None:
    """Every fault at once; then the first one is taken away, again and again."""
    tenant = await timed_service.tenant(
        developer_api=False, key_requests_per_second=1, monthly_quota=0
    )
    client = connect(timed_service.addresses)
    await tenant.revoke()
    await tenant.expire()
    timed_service.time.advance(60)
    key_id = tenant.api_key.id
    too_many = [event(duration=-1)] * 501

    async def attempt() -> Reply:
        return await client.ingest(tenant.key, too_many)

    assert (await attempt()).code == "key_revoked"
    await tenant.change_rights("UPDATE api_keys SET revoked_at = NULL WHERE id = %s", key_id)
    await within_a_second(attempt, "key_expired")
    await tenant.change_rights("UPDATE api_keys SET expires_at = NULL WHERE id = %s", key_id)
    await within_a_second(attempt, "plan_disabled")
    await tenant.update(developer_api=True)
    await within_a_second(attempt, "batch_too_large")  # takes the only token
    assert (await attempt()).code == "rate_limited"
    timed_service.time.advance(1)
    assert (await client.ingest(tenant.key, [event(duration=-1)])).code == "invalid_body"
    timed_service.time.advance(1)
    assert (await client.ingest(tenant.key, [event()])).code == "quota_exceeded"


CHANGES: dict[str, tuple[Callable[[Tenant], Awaitable[None]], str]] = {
    "revoke": (Tenant.revoke, "key_revoked"),
    "expire": (Tenant.expire, "key_expired"),
    "plan": (lambda tenant: tenant.update(developer_api=False), "plan_disabled"),
    "whitelist": (lambda tenant: tenant.deny("ticket.resolved"), "forbidden_event_type"),
    "quota": (lambda tenant: tenant.update(monthly_quota=0), "quota_exceeded"),
    "rate": (lambda tenant: tenant.update(requests_per_second=1), "rate_limited"),
}


@pytest.mark.timed
@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_is_in_force_everywhere_within_a_second(
    replicas: tuple[Driver, Driver], tenant: Tenant, change: str
) -> None:
    apply, code = CHANGES[change]
    for client in replicas:  # so that both know the key by heart
        assert (await client.ingest(tenant.key, [event()])).code is None
    await apply(tenant)
    for client in replicas:
        await within_a_second(lambda c=client: c.ingest(tenant.key, [event()]), code)  # type: ignore[misc]


UNDONE: dict[str, tuple[dict[str, object], Callable[[Tenant], Awaitable[None]], str]] = {
    "plan": (
        {"developer_api": False},
        lambda tenant: tenant.update(developer_api=True),
        "plan_disabled",
    ),
    "whitelist": (
        {"event_types": ["deal.won"]},
        lambda tenant: tenant.allow("ticket.resolved"),
        "forbidden_event_type",
    ),
    "quota": (
        {"monthly_quota": 0},
        lambda tenant: tenant.update(monthly_quota=1),
        "quota_exceeded",
    ),
    "rate": (
        {"requests_per_second": 1},
        lambda tenant: tenant.update(requests_per_second=FAST),
        "rate_limited",
    ),
}


@pytest.mark.timed
@pytest.mark.parametrize("change", UNDONE)
async def test_a_right_that_is_given_is_in_force_within_a_second(
    driver: Driver, new_tenant: MakeTenant, change: str
) -> None:
    options, apply, code = UNDONE[change]
    tenant = await new_tenant(**options)

    async def attempt() -> Reply:
        return await driver.ingest(tenant.key, [event()])

    await within_a_second(attempt, code)
    await apply(tenant)
    await within_a_second(attempt, None)


@pytest.mark.timed
async def test_a_key_that_expires_soon_stops_working_within_a_second(
    driver: Driver, tenant: Tenant
) -> None:
    await tenant.change_rights(
        "UPDATE api_keys SET expires_at = %s WHERE id = %s",
        to_datetime(now_us() + 200_000),
        tenant.api_key.id,
    )
    await within_a_second(lambda: driver.ping(tenant.key), "key_expired")


@pytest.mark.timed
async def test_a_key_made_after_it_was_refused_works(driver: Driver, tenant: Tenant) -> None:
    """Unknown keys are not remembered as unknown for longer than a second."""
    await tenant.change_rights(
        "UPDATE api_keys SET digest = digest || '\\x00' WHERE id = %s", tenant.api_key.id
    )
    await within_a_second(lambda: driver.ping(tenant.key), "invalid_key")
    await tenant.change_rights(
        "UPDATE api_keys SET digest = substring(digest FOR 32) WHERE id = %s", tenant.api_key.id
    )
    await within_a_second(lambda: driver.ping(tenant.key), None)
