"""Batches of events: each event on its own, what the answer says of it, and what is stored."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.behaviour.conftest import Connect
from tests.behaviour.examples import BROKEN, broken
from tests.conftest import MakeTenant
from tests.support.driver import Driver
from tests.support.manual_time import TimedService
from tests.support.tenant import NOBODY, Tenant, event

pytestmark = pytest.mark.anyio

START = datetime(2026, 4, 19, 12, 5, tzinfo=UTC)


def numbered(index: int, **members: Any) -> dict[str, Any]:
    """A valid event, one of a series that differ in every member."""
    moment = START + timedelta(minutes=index)
    return event(
        f"crm-user-{index % 7}",
        **{
            "eventType": ("ticket.resolved", "ticket.created", "deal.won")[index % 3],
            "category": ("code", "design", "other", "calendar")[index % 4],
            "timestamp": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "duration": index,
            "metadata": {"index": index},
            **members,
        },
    )


async def test_a_batch_is_accepted_in_its_order(driver: Driver, tenant: Tenant) -> None:
    events = [numbered(index) for index in range(20)]
    reply = await driver.ingest(tenant.key, events)
    assert reply.accepted == [(one["eventType"], one["timestamp"]) for one in events]
    assert reply.rejected == []


async def test_what_is_stored_is_what_was_sent(driver: Driver, tenant: Tenant) -> None:
    await driver.ingest(tenant.key, [numbered(index) for index in range(20)])
    stored = await tenant.events()
    names = {worker["id"]: worker["display_name"] for worker in await tenant.workers()}
    assert [
        {
            "eventType": row["event_type"],
            "category": row["category"],
            "actor": {"externalId": names[row["worker_id"]]},
            "timestamp": row["occurred_at"].strftime("%Y-%m-%dT%H:%M:%SZ"),
            "duration": row["duration_seconds"],
            "metadata": json.loads(row["metadata"]),
        }
        for row in stored
    ] == [numbered(index) for index in range(20)]
    assert {row["app_id"] for row in stored} == {tenant.app.id}


async def test_optional_members_may_be_left_out(driver: Driver, tenant: Tenant) -> None:
    reply = await driver.ingest(tenant.key, [event()])
    assert reply.code is None
    (row,) = await tenant.events()
    assert (row["duration_seconds"], row["metadata"]) == (None, None)


async def test_an_event_without_timestamp_happened_when_it_was_received(
    connect: Connect, timed_service: TimedService
) -> None:
    tenant = await timed_service.tenant()
    timed_service.time.advance_to(
        (timed_service.time.now_us // 1_000_000 + 1) * 1_000_000 + 120_300
    )
    reply = await connect(timed_service.addresses).ingest(tenant.key, [event(), event()])
    (row, _) = await tenant.events()
    assert row["occurred_at"] == datetime.fromtimestamp(timed_service.time.now_us / 1e6, UTC)
    echo = row["occurred_at"].strftime("%Y-%m-%dT%H:%M:%S") + ".1203Z"
    assert reply.accepted == [("ticket.resolved", echo)] * 2


async def test_accepted_and_rejected_events_of_one_batch(driver: Driver, tenant: Tenant) -> None:
    events = [
        numbered(0),
        broken("worker_not_found"),
        broken("forbidden_event_type"),
        numbered(3),
        broken("invalid_body"),
        broken("missing_actor"),
        numbered(6),
    ]
    reply = await driver.ingest(tenant.key, events)
    assert reply.code is None
    assert reply.accepted == [(events[i]["eventType"], events[i]["timestamp"]) for i in (0, 3, 6)]
    assert [(one.index, one.code) for one in reply.rejected] == [
        (1, "worker_not_found"),
        (2, "forbidden_event_type"),
        (4, "invalid_body"),
        (5, "missing_actor"),
    ]
    assert [row["duration_seconds"] for row in await tenant.events()] == [0, 3, 6]
    assert await tenant.used() == 3


async def test_messages_name_the_event_the_field_and_the_reason(
    driver: Driver, tenant: Tenant
) -> None:
    events = [
        event(),
        event(duration=86_401),
        event(eventType="deploy.shipped"),
        event(actor={}),
        event(actor={"workerId": NOBODY}),
    ]
    reply = await driver.ingest(tenant.key, events)
    assert [one.message for one in reply.rejected] == [
        "events[1].duration: must be at most 86400",
        "events[2].eventType: 'deploy.shipped' is not whitelisted for this app",
        "events[3].actor: must have a workerId, an externalId or an email",
        "events[4].actor.workerId: no worker of this organization has this id",
    ]


async def test_all_that_is_wrong_with_an_event_is_listed(driver: Driver, tenant: Tenant) -> None:
    wrong: dict[str, Any] = {
        "eventType": "!",
        "category": "gardening",
        "actor": {"externalId": "", "email": "nobody", "displayName": "x" * 201},
        "duration": -1,
        "metadata": {"nul": "\0"},
    }
    reply = await driver.ingest(tenant.key, [event(), event(**wrong)])
    (rejected,) = reply.rejected
    for path in (
        *("eventType", "category", "duration", "metadata"),
        *("actor.externalId", "actor.email", "actor.displayName"),
    ):
        assert f"events[1].{path}: must" in rejected.message
    assert "communication, project_management, code, calendar" in rejected.message


CODES = [*BROKEN, "quota_exceeded"]


@pytest.mark.parametrize("first", CODES)
async def test_if_none_is_accepted_the_first_one_gives_the_code(
    driver: Driver, new_tenant: MakeTenant, first: str
) -> None:
    tenant = await new_tenant(monthly_quota=0)
    shift = CODES.index(first)
    codes = CODES[shift:] + CODES[:shift]
    events = [event() if code == "quota_exceeded" else broken(code) for code in codes]
    reply = await driver.ingest(tenant.key, events)
    assert reply.code == first
    assert reply.message == reply.rejected[0].message
    assert [(one.index, one.code) for one in reply.rejected] == list(enumerate(codes))
    assert list(reply.accepted) == []
    assert await tenant.events() == []
    assert await tenant.workers() == []
    assert await tenant.used() == 0


@pytest.mark.parametrize(
    ("code", "members"),
    [
        ("invalid_body", {"duration": -1, "actor": {}, "eventType": "not.allowed"}),
        ("missing_actor", {"actor": {}, "eventType": "not.allowed"}),
        ("forbidden_event_type", {"eventType": "not.allowed", "actor": {"workerId": NOBODY}}),
        ("worker_not_found", {"actor": {"workerId": NOBODY}}),
        ("quota_exceeded", {}),
    ],
)
async def test_the_first_failure_in_the_order_of_checks_names_the_event(
    driver: Driver, new_tenant: MakeTenant, code: str, members: dict[str, Any]
) -> None:
    tenant = await new_tenant(monthly_quota=0)
    reply = await driver.ingest(tenant.key, [event(**members)])
    assert reply.code == code
    assert reply.codes == [code]


async def test_an_event_without_actor_is_missing_its_actor(driver: Driver, tenant: Tenant) -> None:
    reply = await driver.ingest(tenant.key, [event(actor=...), event()])
    assert reply.codes == ["missing_actor"]


@pytest.mark.parametrize("size", [1, 499, 500])
async def test_a_batch_may_have_up_to_500_events(driver: Driver, tenant: Tenant, size: int) -> None:
    reply = await driver.ingest(tenant.key, [event()] * size)
    assert len(reply.accepted) == size
    assert len(await tenant.events()) == size


async def test_an_empty_batch_is_an_invalid_body(driver: Driver, tenant: Tenant) -> None:
    reply = await driver.ingest(tenant.key, [])
    assert reply.code == "invalid_body"
    assert list(reply.rejected) == []
    assert "events" in reply.message


@pytest.mark.parametrize("wrong", [event(), broken("invalid_body"), broken("missing_actor")])
async def test_a_batch_over_500_events_is_too_large_whatever_they_are(
    driver: Driver, tenant: Tenant, wrong: dict[str, Any]
) -> None:
    reply = await driver.ingest(tenant.key, [event()] * 500 + [wrong])
    assert reply.code == "batch_too_large"
    assert "500" in reply.message
    assert list(reply.rejected) == []
    assert await tenant.events() == []


async def test_one_bad_event_among_500_costs_the_others_nothing(
    driver: Driver, tenant: Tenant
) -> None:
    events = [event(metadata={"index": index}) for index in range(500)]
    events[250] = event(metadata={"nul": "\0"})
    reply = await driver.ingest(tenant.key, events)
    assert len(reply.accepted) == 499
    assert [(one.index, one.code) for one in reply.rejected] == [(250, "invalid_body")]


async def test_equal_events_are_all_stored(driver: Driver, tenant: Tenant) -> None:
    """Only an idempotency key tells a repetition from a second event."""
    await driver.ingest(tenant.key, [numbered(1)] * 3)
    await driver.ingest(tenant.key, [numbered(1)] * 3)
    assert len(await tenant.events()) == 6
    assert len({row["id"] for row in await tenant.events()}) == 6


async def test_an_app_may_send_only_what_is_on_its_own_whitelist(
    driver: Driver, tenant: Tenant
) -> None:
    other = await tenant.another_app(["call.ended"])
    assert (await driver.ingest(other.key, [event(eventType="call.ended")])).code is None
    assert (await driver.ingest(tenant.key, [event(eventType="call.ended")])).code is not None
    reply = await driver.ingest(other.key, [event()])
    assert reply.code == "forbidden_event_type"


async def test_the_whitelist_is_compared_exactly(driver: Driver, tenant: Tenant) -> None:
    reply = await driver.ingest(tenant.key, [event(eventType="Ticket.Resolved")])
    assert reply.code == "forbidden_event_type"
