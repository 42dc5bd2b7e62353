"""A replay over HTTP: the same status and bytes, told apart by its headers only."""

from __future__ import annotations

import json

import pytest

from tests.support.raw_http import (
    EVENTS,
    SNAPSHOTS,
    ask,
    check_error,
    post,
)
from tests.support.running_service import Addresses
from tests.support.tenant import (
    Tenant,
    event,
    snapshot,
)

pytestmark = pytest.mark.anyio

WHOLE = {"events": [event("a"), event("b", timestamp="2026-04-19T14:05:00.120+02:00")]}


PARTIAL = {"events": [event("a"), event(eventType="not.allowed")]}


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [(EVENTS, WHOLE, 202), (EVENTS, PARTIAL, 207), (SNAPSHOTS, snapshot(), 202)],
)
async def test_a_replay_repeats_status_and_bytes(
    server: Addresses, tenant: Tenant, path: str, body: object, status: int
) -> None:
    request = post(tenant.key, json.dumps(body).encode(), path, Idempotency_Key="batch-1")
    first = await ask(server.http, request)
    used = await tenant.used()
    spaced = post(tenant.key, json.dumps(body, indent=2).encode(), path, Idempotency_Key="batch-1")
    replays = [await ask(server.http, again) for again in (request, spaced)]
    assert first.status == status
    assert "idempotency-replayed" not in first.headers
    for replay in replays:
        assert (replay.status, replay.body) == (first.status, first.body)
        assert replay.headers["idempotency-replayed"] == "true"
        assert replay.headers["content-length"] == first.headers["content-length"]
        assert replay.headers["x-request-id"] == first.headers["x-request-id"]
    assert first.json["requestId"] == first.headers["x-request-id"]
    assert await tenant.used() == used


async def test_malformed_events_are_replayed_with_the_rest(
    server: Addresses, tenant: Tenant
) -> None:
    body = b'{"events": [%b, {"eventType": 1}, [1e999]]}' % json.dumps(event()).encode()
    request = post(tenant.key, body, Idempotency_Key="batch-1")
    first, replay = await ask(server.http, request), await ask(server.http, request)
    assert first.status == 207
    assert (replay.status, replay.body) == (first.status, first.body)
    other = post(tenant.key, body.replace(b"1", b"2"), Idempotency_Key="batch-1")
    assert "different body" in check_error(await ask(server.http, other), 400, "invalid_body")


async def test_errors_are_not_replayed(server: Addresses, tenant: Tenant) -> None:
    body = json.dumps({"events": [event(eventType="later.allowed")]}).encode()
    request = post(tenant.key, body, Idempotency_Key="batch-1")
    for _ in range(2):
        refused = await ask(server.http, request)
        assert refused.status == 403
        assert "idempotency-replayed" not in refused.headers
