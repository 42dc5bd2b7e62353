"""Idempotency keys: the first request that wrote something is answered again, word for word."""

from __future__ import annotations

from typing import Any

import pytest

from core.timestamps import to_datetime
from tests.behaviour.conftest import Connect
from tests.behaviour.examples import KEY, broken, send, within_a_second, written
from tests.conftest import MakeTenant
from tests.support.driver import Driver, Reply
from tests.support.http_driver import HttpDriver
from tests.support.manual_time import TimedService
from tests.support.tenant import Tenant, event, now_us

pytestmark = pytest.mark.anyio

WINDOW_SECONDS = 600


async def assert_replayed(
    driver: Driver, tenant: Tenant, events: list[dict[str, Any]], first: Reply
) -> None:
    """Sending the events again gives the first answer and writes nothing."""
    before = await written(tenant)
    again = await driver.ingest(tenant.key, events, KEY)
    assert again.replayed
    assert again.answer == first.answer
    assert await written(tenant) == before


async def test_an_equal_request_gets_the_first_answer_and_writes_nothing(
    driver: Driver, tenant: Tenant, endpoint: str
) -> None:
    first = await send(driver, tenant, endpoint)
    assert (first.code, first.replayed) == (None, False)
    for _ in range(3):
        again = await send(driver, tenant, endpoint)
        assert again.replayed
        assert again.answer == first.answer
        assert again.request_id == first.request_id
    assert await written(tenant) == 1


async def test_without_a_key_every_request_is_written(
    driver: Driver, tenant: Tenant, endpoint: str
) -> None:
    for _ in range(2):
        assert not (await send(driver, tenant, endpoint, None)).replayed
    assert await written(tenant) == 2


async def test_a_used_key_with_another_body_is_refused(
    driver: Driver, tenant: Tenant, endpoint: str
) -> None:
    first = await send(driver, tenant, endpoint, metadata={"n": 1})
    for members in (
        {"metadata": {"n": 2}},
        {"metadata": ...},
        {"timestamp": "2026-04-19T12:05:00Z"},
        {"actor": ...},
        {"actor": {"displayName": "Nobody in particular"}},
        {"actor": {"email": "nobody"}},
    ):
        reply = await send(driver, tenant, endpoint, **members)
        assert reply.code == "invalid_body"
        assert "Idempotency-Key" in reply.message
        assert "different body" in reply.message
    assert (await send(driver, tenant, endpoint, metadata={"n": 1})).answer == first.answer
    assert await written(tenant) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"eventType": "ticket.created"},
        {"category": "code"},
        {"actor": {"externalId": "crm-user-2"}},
        {"actor": {"externalId": "crm-user-1", "displayName": "Alex"}},
        {"actor": {"email": "crm-user-1"}},
        {"duration": 0},
        {"metadata": {}},
        {"metadata": {"n": "1"}},
        {"metadata": {"n": 1, "m": None}},
        {"metadata": {"n": 10**20 + 1}},
    ],
)
async def test_any_difference_makes_a_different_body(
    driver: Driver, tenant: Tenant, other: dict[str, Any]
) -> None:
    metadata = {"n": 1} if "n" in other.get("metadata", ()) else ...
    if other.get("metadata") == {"n": 10**20 + 1}:
        metadata = {"n": 10**20}
    await driver.ingest(tenant.key, [event(metadata=metadata)], KEY)
    reply = await driver.ingest(tenant.key, [event(metadata=metadata) | other], KEY)
    assert reply.code == "invalid_body"


async def test_more_fewer_and_reordered_events_are_different_bodies(
    driver: Driver, tenant: Tenant
) -> None:
    one, two = event(duration=1), event(duration=2)
    await driver.ingest(tenant.key, [one, two], KEY)
    for events in ([one], [one, two, two], [two, one]):
        assert (await driver.ingest(tenant.key, events, KEY)).code == "invalid_body"
    assert await written(tenant) == 2


async def test_another_spelling_of_equal_values_is_an_equal_body(
    driver: Driver, tenant: Tenant, endpoint: str
) -> None:
    moment = {"timestamp": "2026-04-19T12:05:00Z"}
    metadata = {"a": 1, "b": [1.0, {"c": 100, "d": "é"}]}
    first = await send(driver, tenant, endpoint, **moment, metadata=metadata)
    moment = {"timestamp": "2026-04-19T14:05:00.000+02:00"}
    metadata = {"b": [1, {"d": "é", "c": 1e2}], "a": 1.0}
    again = await send(driver, tenant, endpoint, metadata=metadata, **moment)
    assert again.replayed
    assert again.answer == first.answer


async def test_another_json_spelling_is_an_equal_body(http: HttpDriver, tenant: Tenant) -> None:
    body = b'{"events":[{"eventType":"deal.won","category":"other","actor":{"email":"a@b"},%s}]}'
    first = await http.post(
        "events", tenant.key, body % b'"metadata":{"a":"\xc3\xa9","n":1.50}', KEY
    )
    spelled = b' "metadata" : { "n" : 15e-1 , "\\u0061" : "\\u00E9" } , "ignored" : [ ] '
    again = await http.post("events", tenant.key, body % spelled, KEY)
    assert again.replayed
    assert again.answer == first.answer


async def test_the_answer_to_a_partial_success_is_replayed(driver: Driver, tenant: Tenant) -> None:
    events = [
        *(broken("worker_not_found"), broken("forbidden_event_type"), event(), event(duration=5)),
        *(broken("worker_not_found"), broken("invalid_body"), broken("missing_actor"), event()),
    ]
    first = await driver.ingest(tenant.key, events, KEY)
    assert [one.index for one in first.rejected] == [0, 1, 4, 5, 6]
    await assert_replayed(driver, tenant, events, first)


@pytest.mark.timed
async def test_the_answer_is_replayed_although_the_whitelist_has_changed(
    driver: Driver, tenant: Tenant
) -> None:
    events = [event(), event(eventType="deal.won"), event(eventType="call.ended")]
    first = await driver.ingest(tenant.key, events, KEY)
    await tenant.deny("deal.won")
    await tenant.allow("call.ended")
    await within_a_second(lambda: driver.ingest(tenant.key, events[1:2]), "forbidden_event_type")
    await assert_replayed(driver, tenant, events, first)
    await tenant.deny("ticket.resolved", "call.ended")
    await within_a_second(lambda: driver.ingest(tenant.key, events[:1]), "forbidden_event_type")
    await assert_replayed(driver, tenant, events, first)


async def test_the_answer_is_replayed_although_the_quota_has_changed(
    driver: Driver, new_tenant: MakeTenant
) -> None:
    tenant = await new_tenant(monthly_quota=2)
    events = [event(), broken("worker_not_found"), event(), event()]
    first = await driver.ingest(tenant.key, events, KEY)
    assert first.codes == ["worker_not_found", "quota_exceeded"]
    await assert_replayed(driver, tenant, events, first)
    await tenant.update(monthly_quota=1_000)
    await assert_replayed(driver, tenant, events, first)
    await tenant.update(monthly_quota=0)
    await assert_replayed(driver, tenant, events, first)


@pytest.mark.timed
async def test_a_replay_needs_a_valid_key_and_plan(driver: Driver, tenant: Tenant) -> None:
    await driver.ingest(tenant.key, [event()], KEY)
    await tenant.revoke()
    await within_a_second(lambda: driver.ingest(tenant.key, [event()], KEY), "key_revoked")


async def test_a_replay_costs_a_rate_token(connect: Connect, timed_service: TimedService) -> None:
    client = connect(timed_service.addresses)
    tenant = await timed_service.tenant(key_requests_per_second=3)
    codes = [(await client.ingest(tenant.key, [event()], KEY)).code for _ in range(4)]
    assert codes == [None, None, None, "rate_limited"]


async def test_a_key_belongs_to_one_api_key_and_endpoint(driver: Driver, tenant: Tenant) -> None:
    senders = [tenant, await tenant.another_key(), await tenant.another_app()]
    replies = [
        await send(driver, sender, endpoint)
        for sender in senders
        for endpoint in ("events", "snapshots")
    ]
    assert [(reply.code, reply.replayed) for reply in replies] == [(None, False)] * 6
    assert await written(tenant) == 6


@pytest.mark.parametrize("code", ["invalid_body", "missing_actor", "worker_not_found"])
async def test_a_request_that_wrote_nothing_is_not_remembered(
    driver: Driver, tenant: Tenant, endpoint: str, code: str
) -> None:
    members = {"timestamp": "never"} if code == "invalid_body" else {}
    wrong = {**broken(code), **members}
    actor = {"actor": wrong["actor"]} if code != "invalid_body" else members
    assert (await send(driver, tenant, endpoint, **actor)).code == code
    assert (await send(driver, tenant, endpoint, **actor)).code == code
    other = await send(driver, tenant, endpoint)  # the key is free, for whatever body
    assert (other.code, other.replayed) == (None, False)


@pytest.mark.timed
async def test_a_refused_request_is_judged_afresh(
    driver: Driver, new_tenant: MakeTenant, endpoint: str
) -> None:
    tenant = await new_tenant(monthly_quota=0)
    for _ in range(2):
        assert (await send(driver, tenant, endpoint)).code == "quota_exceeded"
    await tenant.update(monthly_quota=1)
    reply = await within_a_second(lambda: send(driver, tenant, endpoint), None)
    assert not reply.replayed
    assert await written(tenant) == 1


@pytest.mark.parametrize("key", ["k", "k" * 200, " !~\"'\\%"])
async def test_keys(driver: Driver, tenant: Tenant, endpoint: str, key: str) -> None:
    key = key.strip()
    await send(driver, tenant, endpoint, key)
    assert (await send(driver, tenant, endpoint, key)).replayed
    assert not (await send(driver, tenant, endpoint, "another")).replayed


@pytest.mark.parametrize("key", ["", "k" * 201])
async def test_no_keys(driver: Driver, tenant: Tenant, endpoint: str, key: str) -> None:
    reply = await send(driver, tenant, endpoint, key)
    assert reply.code == "invalid_body"
    assert reply.message.startswith("Idempotency-Key: must be 1 to 200 characters")
    assert await written(tenant) == 0


async def test_after_ten_minutes_the_key_is_free_again(
    connect: Connect, timed_service: TimedService, endpoint: str
) -> None:
    client, tenant = connect(timed_service.addresses), await timed_service.tenant()
    first = await send(client, tenant, endpoint)
    timed_service.time.advance(WINDOW_SECONDS - 0.000_001)
    assert (await send(client, tenant, endpoint)).answer == first.answer
    timed_service.time.advance(0.000_001)
    second = await send(client, tenant, endpoint, metadata={"another": "body"})
    assert (second.code, second.replayed) == (None, False)
    assert await written(tenant) == 2
    timed_service.time.advance(WINDOW_SECONDS - 1)  # the window is the second one's own
    again = await send(client, tenant, endpoint, metadata={"another": "body"})
    assert again.answer == second.answer


async def test_a_key_of_ten_minutes_ago_is_free_on_every_clock(
    driver: Driver, tenant: Tenant
) -> None:
    await driver.ingest(tenant.key, [event()], KEY)
    await tenant.rows(
        "UPDATE idempotency_keys SET created_at = %s WHERE organization_id = %s",
        to_datetime(now_us() - 600_000_000),
        tenant.organization.id,
    )
    assert not (await driver.ingest(tenant.key, [event()], KEY)).replayed
    assert (await driver.ingest(tenant.key, [event()], KEY)).replayed
    assert await written(tenant) == 2


async def test_omitted_timestamps_are_replayed_as_they_were(
    connect: Connect, timed_service: TimedService
) -> None:
    client, tenant = connect(timed_service.addresses), await timed_service.tenant()
    events = [event(), event(timestamp="2026-04-19T14:05:00.50+02:00")]
    first = await client.ingest(tenant.key, events, KEY)
    timed_service.time.advance(60)
    again = await client.ingest(tenant.key, events, KEY)
    assert again.accepted == first.accepted
    assert again.answer == first.answer
