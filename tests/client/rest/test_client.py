"""The REST clients against the real service, in good order and refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from core import ids
from tests.client.rest.conftest import Connect
from tests.conftest import MakeTenant
from tests.support.http_proxy import HttpProxy
from tests.support.running_service import Addresses
from tests.support.tenant import UNKNOWN_KEY, Tenant, event, snapshot
from tests.support.waiting import eventually
from wepeople_ingest_client import (
    Actor,
    ApiError,
    AuthenticationError,
    DetailedMetric,
    Event,
    ForbiddenEventTypeError,
    InvalidRequestError,
    PlanDisabledError,
    QuotaExceededError,
    RateLimitedError,
    Retries,
    Snapshot,
    WorkerNotFoundError,
)
from wepeople_ingest_client.limits import MAX_BATCH_EVENTS, MAX_REQUEST_BYTES

pytestmark = pytest.mark.anyio

ACTOR = Actor(external_id="crm-user-42", email="alex.chen@example.com", display_name="Alex Chen")
FORBIDDEN: dict[str, Any] = {"eventType": "not.whitelisted"}
NOBODY: dict[str, Any] = {"actor": {"workerId": "wrk_01KM2B6F0P7JQ4S8N1TZVXC3GA"}}
ONCE = Retries(max_attempts=1)


async def test_ping(connect: Connect, server: Addresses, tenant: Tenant) -> None:
    pong = await connect(server.http, tenant.key).ping()
    assert pong.organization_id == tenant.organization_id
    assert pong.app.id == ids.text(ids.APP, tenant.app.id)
    assert (pong.app.slug, pong.app.name) == ("crm-hub", "CRM Hub")


async def test_event(connect: Connect, server: Addresses, tenant: Tenant) -> None:
    when = datetime(2026, 4, 19, 12, 5, 30, 250_000, UTC)
    result = await connect(server.http, tenant.key).ingest_events(
        [
            Event(
                event_type="deal.won",
                category="project_management",
                actor=ACTOR,
                timestamp=when,
                duration=240,
                metadata={"price": Decimal("1.50"), "none": None, "list": [{"a": 1}]},
            ),
            event(),
        ]
    )
    assert [(one.index, one.event_type) for one in result.accepted] == [
        (0, "deal.won"),
        (1, "ticket.resolved"),
    ]
    assert result.accepted[0].timestamp == when
    assert (result.judged, result.rejected, result.retryable) == (2, (), ())
    (request_id,) = result.request_ids
    assert request_id.startswith("req_")
    stored = (await tenant.events())[0]
    assert (stored["occurred_at"], stored["duration_seconds"]) == (when, 240)
    assert json.loads(stored["metadata"], parse_float=str) == {
        "price": "1.50",
        "none": None,
        "list": [{"a": 1}],
    }
    workers = {(one["display_name"], one["email"]) for one in await tenant.workers()}
    assert ("Alex Chen", "alex.chen@example.com") in workers


async def test_snapshot(connect: Connect, server: Addresses, tenant: Tenant) -> None:
    client = connect(server.http, tenant.key)
    result = await client.ingest_snapshot(
        Snapshot(
            snapshot_type="support.desk",
            actor=ACTOR,
            metrics={
                "open": 7,
                "mood": "steady",
                "csat": DetailedMetric(94.5, "percentage", "Customer satisfaction"),
                "exact": Decimal("0.10"),
            },
            timestamp="2026-04-19T14:05:30+02:00",
        )
    )
    assert (result.snapshot_type, result.worker.display_name) == ("support.desk", "Alex Chen")
    (card,) = await tenant.cards()
    assert json.loads(card["metrics"], parse_float=str) == {
        "open": 7,
        "mood": "steady",
        "csat": {"value": "94.5", "unit": "percentage", "label": "Customer satisfaction"},
        "exact": "0.10",
    }
    assert (await client.ingest_snapshot(snapshot())).worker.id != result.worker.id


async def test_no_events_are_no_request(connect: Connect) -> None:
    result = await connect("http://127.0.0.1:9", UNKNOWN_KEY).ingest_events([])
    assert (result.judged, result.request_ids) == (0, ())


async def test_some_rejected(connect: Connect, server: Addresses, new_tenant: MakeTenant) -> None:
    tenant = await new_tenant(monthly_quota=2)
    events = [event(**FORBIDDEN), event(), event(duration=-1), event(**NOBODY), event(), event()]
    result = await connect(server.http, tenant.key).ingest_events(events)
    assert [one.index for one in result.accepted] == [1, 4]
    assert [(one.index, one.code) for one in result.rejected] == [
        (0, "forbidden_event_type"),
        (2, "invalid_body"),
        (3, "worker_not_found"),
        (5, "quota_exceeded"),
    ]
    assert result.retryable == (0, 5)
    await tenant.allow("not.whitelisted")
    await tenant.update(monthly_quota=100)
    left = [events[place] for place in result.retryable]

    async def are_taken() -> bool:
        nonlocal left
        again = await connect(server.http, tenant.key).ingest_events(left)
        left = [left[place] for place in again.retryable]
        return not left

    await eventually(are_taken, "the changes are in force")
    assert len(await tenant.events()) == 4


@pytest.mark.parametrize(
    ("members", "kind"),
    [
        (FORBIDDEN, ForbiddenEventTypeError),
        (NOBODY, WorkerNotFoundError),
        ({"duration": -1}, InvalidRequestError),
        ({"actor": {}}, InvalidRequestError),
    ],
)
async def test_all_rejected(
    connect: Connect, server: Addresses, tenant: Tenant, members: dict[str, Any], kind: type
) -> None:
    with pytest.raises(ApiError) as caught:
        await connect(server.http, tenant.key).ingest_events([event(**members), event(**FORBIDDEN)])
    error = caught.value
    assert type(error) is kind
    assert error.result is not None
    assert [(one.index, one.code) for one in error.result.rejected] == [
        (0, error.code),
        (1, "forbidden_event_type"),
    ]
    assert error.docs_url == f"{server.http}/developers/reference#{error.code}"
    assert error.request_id in str(error)
    assert error.result.request_ids == (error.request_id,)


@pytest.mark.parametrize(
    ("options", "status", "code", "kind"),
    [
        ({"developer_api": False}, 402, "plan_disabled", PlanDisabledError),
        ({"monthly_quota": 0}, 402, "quota_exceeded", QuotaExceededError),
    ],
)
async def test_refused_organization(
    connect: Connect,
    server: Addresses,
    new_tenant: MakeTenant,
    options: dict[str, int],
    status: int,
    code: str,
    kind: type,
) -> None:
    tenant = await new_tenant(**options)
    with pytest.raises(ApiError) as caught:
        await connect(server.http, tenant.key).ingest_snapshot(snapshot())
    assert (type(caught.value), caught.value.status, caught.value.code) == (kind, status, code)
    assert caught.value.idempotency_key


async def test_revoked_key(connect: Connect, server: Addresses, tenant: Tenant) -> None:
    await tenant.revoke()
    with pytest.raises(AuthenticationError) as caught:
        await connect(server.http, tenant.key).ping()
    assert (caught.value.status, caught.value.code) == (401, "key_revoked")


async def test_unknown_key(connect: Connect, server: Addresses) -> None:
    with pytest.raises(AuthenticationError) as caught:
        await connect(server.http, UNKNOWN_KEY).ping()
    assert UNKNOWN_KEY not in repr(caught.value)
    assert caught.value.idempotency_key is None


async def test_rate_limit_is_waited_for(
    connect: Connect, server: Addresses, new_tenant: MakeTenant
) -> None:
    tenant = await new_tenant(key_requests_per_second=1)
    async with HttpProxy(server.http) as proxy:
        client = connect(proxy.url, tenant.key)
        for _ in range(3):
            await client.ping()
        assert len(proxy.received) > 3, "at least one was rate_limited, and sent again"


async def test_rate_limit_without_repeats(
    connect: Connect, server: Addresses, new_tenant: MakeTenant
) -> None:
    tenant = await new_tenant(key_requests_per_second=1)
    client = connect(server.http, tenant.key, retries=ONCE)

    async def hurry() -> None:
        for _ in range(20):  # on a busy machine there may be a token again
            await client.ping()

    with pytest.raises(RateLimitedError) as caught:
        await hurry()
    assert caught.value.retry_after_seconds == 1


async def test_split_by_count(connect: Connect, server: Addresses, tenant: Tenant) -> None:
    count = 2 * MAX_BATCH_EVENTS + 1
    events = [event(metadata={"n": n}) for n in range(count)]
    for place in (3, MAX_BATCH_EVENTS, count - 1):  # one in each request; the last is all of its
        events[place] |= FORBIDDEN
    async with HttpProxy(server.http) as proxy:
        result = await connect(proxy.url, tenant.key).ingest_events(events, idempotency_key="k")
        sent = [len(one.json["events"]) for one in proxy.received]
        keys = [one.idempotency_key for one in proxy.received]
    assert sent == [MAX_BATCH_EVENTS, MAX_BATCH_EVENTS, 1]
    assert keys == ["k-1", "k-2", "k-3"]
    assert [one.index for one in result.rejected] == [3, MAX_BATCH_EVENTS, count - 1]
    assert [one.index for one in result.accepted] == [
        n for n in range(count) if n not in (3, MAX_BATCH_EVENTS, count - 1)
    ]
    assert len(result.request_ids) == 3
    stored = [json.loads(one["metadata"])["n"] for one in await tenant.events()]
    assert stored == [one.index for one in result.accepted], "in order"


async def test_split_by_size(connect: Connect, server: Addresses, tenant: Tenant) -> None:
    events = [event(metadata={"text": "é" * 8_000}) for _ in range(100)]
    async with HttpProxy(server.http) as proxy:
        result = await connect(proxy.url, tenant.key).ingest_events(events)
        sizes = [len(one.body) for one in proxy.received]
    assert len(sizes) == 2
    assert MAX_REQUEST_BYTES - 17_000 < sizes[0] <= MAX_REQUEST_BYTES
    assert len(result.accepted) == 100


async def test_all_parts_rejected(connect: Connect, server: Addresses, tenant: Tenant) -> None:
    events = [event(**FORBIDDEN)] * MAX_BATCH_EVENTS + [event(**NOBODY)]
    with pytest.raises(ForbiddenEventTypeError) as caught:  # the error of the first one
        await connect(server.http, tenant.key).ingest_events(events)
    assert caught.value.result is not None
    assert [one.index for one in caught.value.result.rejected] == list(range(len(events)))


async def test_other_body_under_a_used_key(
    connect: Connect, server: Addresses, tenant: Tenant
) -> None:
    client = connect(server.http, tenant.key)
    await client.ingest_events([event()], idempotency_key="Schlüssel")
    await client.ingest_events([event()], idempotency_key="Schlüssel")
    with pytest.raises(InvalidRequestError):
        await client.ingest_events([event("another")], idempotency_key="Schlüssel")
    assert len(await tenant.events()) == 1


@pytest.mark.parametrize("item", [{"metadata": {"n": float("nan")}}, {"metadata": "x" * 2**20}])
async def test_impossible_event_sends_nothing(
    connect: Connect, server: Addresses, tenant: Tenant, item: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=r"^events\[600\]: "):
        await connect(server.http, tenant.key).ingest_events([event()] * 600 + [event(**item)])
    assert await tenant.events() == []
