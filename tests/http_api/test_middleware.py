"""The headers of every response, whatever becomes of the request (contract section 3)."""

from __future__ import annotations

import json
import re

import pytest

from tests.conftest import MakeTenant
from tests.support.raw_http import (
    ONE,
    PING,
    SNAPSHOTS,
    ask,
    check_error,
    head,
    post,
)
from tests.support.running_service import Addresses
from tests.support.tenant import (
    FAST,
    UNKNOWN_KEY,
    Tenant,
    event,
    snapshot,
)

pytestmark = pytest.mark.anyio


EXPIRE = "UPDATE api_keys SET expires_at = now() - interval '1 s' WHERE organization_id = %s"


REVOKE = "UPDATE api_keys SET revoked_at = now() WHERE organization_id = %s"


REQUEST_ID = re.compile(r"req_[0-9A-HJKMNP-TV-Z]{26}")


async def test_request_ids_are_unique_and_repeated_in_the_body(
    server: Addresses, tenant: Tenant
) -> None:
    seen = set()
    for request in (
        post(tenant.key, ONE),
        post(tenant.key, json.dumps(snapshot()).encode(), SNAPSHOTS),
        post(tenant.key, b""),
        post(None, ONE),
    ):
        answer = await ask(server.http, request)
        request_id = answer.headers["x-request-id"]
        assert REQUEST_ID.fullmatch(request_id)
        assert answer.headers["x-api-version"] == "2026-04-01"
        assert request_id == answer.json.get("error", answer.json)["requestId"]
        seen.add(request_id)
    assert len(seen) == 4


async def test_a_request_id_of_the_client_is_not_taken_over(
    server: Addresses, tenant: Tenant
) -> None:
    answer = await ask(server.http, head(tenant.key, "GET", PING, X_Request_Id="mine"))
    assert REQUEST_ID.fullmatch(answer.headers["x-request-id"])


async def test_the_budget_is_told_once_the_key_is_known(
    server: Addresses, new_tenant: MakeTenant
) -> None:
    tenant = await new_tenant(key_requests_per_second=7)
    half = json.dumps({"events": [event(), event(eventType="not.allowed")]}).encode()
    left = 7
    for request, status in [
        (post(tenant.key, ONE), 202),
        (post(tenant.key, half), 207),
        (post(tenant.key, b"{}"), 400),
        (post(tenant.key, b"x" * 1_048_577), 413),
        (head(tenant.key, "GET", PING), 200),
        (head(tenant.key, Content_Length=2_000_000), 413),
    ]:
        answer = await ask(server.http, request)
        left -= 1
        assert answer.status == status
        assert answer.headers["x-ratelimit-limit"] == "7"
        # A bucket refills while the test runs, but never by more than it took.
        assert left <= int(answer.headers["x-ratelimit-remaining"]) < 7


async def test_the_budget_is_told_when_it_is_used_up(
    server: Addresses, new_tenant: MakeTenant
) -> None:
    tenant = await new_tenant(key_requests_per_second=1)
    answers = [await ask(server.http, head(tenant.key, "GET", PING)) for _ in range(3)]
    refused = [answer for answer in answers if answer.status == 429]
    assert refused
    for answer in refused:
        check_error(answer, 429, "rate_limited")
        assert answer.headers["x-ratelimit-limit"] == "1"
        assert answer.headers["x-ratelimit-remaining"] == "0"
        assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ("UPDATE organizations SET developer_api = false WHERE id = %s", 402, "plan_disabled"),
        (EXPIRE, 401, "key_expired"),
        (REVOKE, 401, "key_revoked"),
    ],
)
async def test_the_budget_is_told_of_a_known_key_that_may_not_be_used(
    server: Addresses, tenant: Tenant, change: str, status: int, code: str
) -> None:
    await tenant.rows(change, tenant.organization.id)
    answer = await ask(server.http, head(tenant.key, "GET", PING))
    check_error(answer, status, code)
    assert answer.headers["x-ratelimit-limit"] == str(FAST)
    assert int(answer.headers["x-ratelimit-remaining"]) <= FAST


@pytest.mark.parametrize("key", [None, UNKNOWN_KEY, "nonsense"])
async def test_no_budget_is_told_of_an_unknown_key(server: Addresses, key: str | None) -> None:
    answer = await ask(server.http, head(key, "GET", PING))
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert not [name for name in answer.headers if name.startswith("x-ratelimit")]
