"""Of several things wrong with a request, the one that contract section 4 names first is told."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from tests.conftest import MakeTenant
from tests.support.raw_http import (
    EVENTS,
    SNAPSHOTS,
    Answer,
    ask,
    check_error,
    chunked,
    head,
    post,
)
from tests.support.running_service import Addresses
from tests.support.tenant import UNKNOWN_KEY, Tenant, event
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio


EXPIRE = "UPDATE api_keys SET expires_at = now() - interval '1 s' WHERE organization_id = %s"
HUGE = b"x" * 1_048_577
EVENTS_501 = [event()] * 500 + [{"eventType": 1}]


@pytest.mark.parametrize("path", [EVENTS, SNAPSHOTS])
@pytest.mark.parametrize("body", [HUGE, b"", b"{", b"[]"])
async def test_the_credential_comes_before_the_body(
    server: Addresses, path: str, body: bytes
) -> None:
    for key, code in [(None, "missing_authorization"), (UNKNOWN_KEY, "invalid_key")]:
        answer = await ask(server.http, post(key, body, path, Content_Type="text/plain"))
        check_error(answer, 401, code)


async def test_revoked_comes_before_expired_and_expired_before_the_plan(
    server: Addresses, new_tenant: MakeTenant
) -> None:
    tenant = await new_tenant(developer_api=False)
    request = post(tenant.key, HUGE)

    async def until(code: str) -> Answer:
        async def is_told() -> bool:
            return (await ask(server.http, request)).code == code

        await eventually(is_told, f"the service answers {code}")
        return await ask(server.http, request)

    check_error(await ask(server.http, request), 402, "plan_disabled")
    await tenant.rows(EXPIRE, tenant.organization.id)
    check_error(await until("key_expired"), 401, "key_expired")
    await tenant.revoke()
    check_error(await until("key_revoked"), 401, "key_revoked")


async def test_the_plan_comes_before_the_rate(server: Addresses, new_tenant: MakeTenant) -> None:
    tenant = await new_tenant(developer_api=False, key_requests_per_second=1)
    for _ in range(3):
        check_error(await ask(server.http, post(tenant.key, HUGE)), 402, "plan_disabled")


@pytest.mark.parametrize("body", [HUGE, b"", b"not json", b"[]"])
async def test_the_rate_comes_before_the_body(
    server: Addresses, new_tenant: MakeTenant, body: bytes
) -> None:
    tenant = await new_tenant(requests_per_second=1)
    codes = [(await ask(server.http, post(tenant.key, body))).code for _ in range(4)]
    assert codes[0] != "rate_limited"
    assert "rate_limited" in codes


@pytest.mark.parametrize(
    "headers",
    [{"Content_Type": None}, {"Content_Type": "text/plain"}, {"Idempotency_Key": "x" * 201}, {}],
)
async def test_the_size_comes_before_type_and_content(
    server: Addresses, tenant: Tenant, headers: dict[str, Any]
) -> None:
    check_error(await ask(server.http, post(tenant.key, HUGE, **headers)), 413, "batch_too_large")
    unannounced = head(tenant.key, Transfer_Encoding="chunked", **headers) + chunked(HUGE)
    check_error(await ask(server.http, unannounced), 413, "batch_too_large")
    packed = post(tenant.key, gzip.compress(HUGE), Content_Encoding="gzip", **headers)
    check_error(await ask(server.http, packed), 413, "batch_too_large")


async def test_the_content_type_comes_before_the_number_of_events(
    server: Addresses, tenant: Tenant
) -> None:
    body = json.dumps({"events": EVENTS_501}).encode()
    answer = await ask(server.http, post(tenant.key, body, Content_Type="text/plain"))
    assert "Content-Type" in check_error(answer, 400, "invalid_body")


@pytest.mark.parametrize(
    "last",
    ['{"eventType": 1}', "{}", "null", "1", '{"duration": 1e999}', "[" * 100 + "]" * 100],
    ids=lambda text: str(text)[:20],
)
async def test_the_number_of_events_comes_before_each_of_them(
    server: Addresses, tenant: Tenant, last: str
) -> None:
    good = json.dumps(event())
    for texts in ([good] * 500 + [last], [last] + [good] * 500):
        body = '{"events": [' + ",".join(texts) + "]}"
        answer = await ask(server.http, post(tenant.key, body.encode()))
        assert "500" in check_error(answer, 413, "batch_too_large")
    assert await tenant.events() == []


@pytest.mark.parametrize("last", ['{"duration": NaN}', "[" * 200 + "]" * 200])
async def test_whether_it_is_json_comes_before_the_number_of_events(
    server: Addresses, tenant: Tenant, last: str
) -> None:
    body = '{"events": [' + ",".join([*[json.dumps(event())] * 500, last]) + "]}"
    answer = await ask(server.http, post(tenant.key, body.encode()))
    check_error(answer, 400, "invalid_body")


@pytest.mark.parametrize(
    "headers",
    [{"Idempotency_Key": "x" * 201}, {"Idempotency_Key": "a", "idempotency_key": "b"}],
    ids=["too long", "sent twice"],
)
async def test_the_number_of_events_comes_before_the_idempotency_key(
    server: Addresses, tenant: Tenant, headers: dict[str, Any]
) -> None:
    body = json.dumps({"events": EVENTS_501}).encode()
    answer = await ask(server.http, post(tenant.key, body, **headers))
    check_error(answer, 413, "batch_too_large")
    answer = await ask(server.http, post(tenant.key, b'{"events": [1]}', **headers))
    assert "Idempotency-Key" in check_error(answer, 400, "invalid_body")


async def test_an_empty_list_comes_before_the_quota(
    server: Addresses, new_tenant: MakeTenant
) -> None:
    tenant = await new_tenant(monthly_quota=0)
    check_error(await ask(server.http, post(tenant.key, b'{"events": []}')), 400, "invalid_body")


async def test_500_events_are_a_batch(server: Addresses, tenant: Tenant) -> None:
    body = json.dumps({"events": [event()] * 500}).encode()
    answer = await ask(server.http, post(tenant.key, body))
    assert (answer.status, answer.json["accepted"]) == (202, 500)
