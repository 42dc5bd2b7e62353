"""What every HTTP response carries, whatever becomes of the request (contract section 3)."""

from __future__ import annotations

import json
import re

import httpx
import pytest

from tests.conftest import MakeTenant
from tests.support.http_driver import HttpDriver
from tests.support.raw_http import EVENTS, PING, SNAPSHOTS, ask, check_error, connect, head, post
from tests.support.running_service import Addresses, RunningService
from tests.support.tenant import FAST, Tenant, event, make_tenant, now_us, snapshot

pytestmark = pytest.mark.anyio

ONE = json.dumps({"events": [event()]}).encode()
UNKNOWN_KEY = "wp_live_" + "0" * 32
EXPIRE = "UPDATE api_keys SET expires_at = now() - interval '1 s' WHERE organization_id = %s"
REVOKE = "UPDATE api_keys SET revoked_at = now() WHERE organization_id = %s"
REQUEST_ID = re.compile(r"req_[0-9A-HJKMNP-TV-Z]{26}")


@pytest.mark.parametrize(
    "path", ["/", "/api", "/api/v1/ingest", "/api/v2/ingest/events", "/docs", "/openapi.json"]
)
async def test_an_unknown_path_is_enveloped(server: Addresses, path: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        check_error(await ask(server.http, head(None, method, path)), 404, "not_found")


@pytest.mark.parametrize("path", [EVENTS, SNAPSHOTS, PING])
@pytest.mark.parametrize("change", ["{}/", "/{}", "{}%2f", "{}/../events/"])
async def test_a_path_is_only_what_it_is(server: Addresses, path: str, change: str) -> None:
    check_error(await ask(server.http, head(None, "GET", change.format(path))), 404, "not_found")


@pytest.mark.parametrize(
    ("path", "allowed"),
    [(PING, "GET"), (EVENTS, "POST"), (SNAPSHOTS, "POST"), ("/healthz", "GET"), ("/readyz", "GET")],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
async def test_a_wrong_method_names_the_right_one(
    server: Addresses, path: str, allowed: str, method: str
) -> None:
    answer = await ask(server.http, head(None, method, path))
    if method == allowed:
        assert "allow" not in answer.headers
    else:
        check_error(answer, 405, "method_not_allowed")
        assert answer.headers["allow"] == allowed


async def test_head_is_a_wrong_method_and_has_no_body(server: Addresses, tenant: Tenant) -> None:
    async with connect(server.http) as connection:
        await connection.send(head(tenant.key, "HEAD", PING))
        answer = await connection.answer(of_head=True)
        assert (answer.status, answer.headers["allow"]) == (405, "GET")
        assert REQUEST_ID.fullmatch(answer.headers["x-request-id"])
        await connection.send(head(tenant.key, "GET", PING))
        assert (await connection.answer()).status == 200


@pytest.mark.parametrize("query", ["?", "?a=b", "?events=[]&limit=%00", "?" + "x" * 8_000])
async def test_query_strings_are_ignored(server: Addresses, tenant: Tenant, query: str) -> None:
    assert (await ask(server.http, head(tenant.key, "GET", PING + query))).status == 200
    assert (await ask(server.http, post(tenant.key, ONE, EVENTS + query))).status == 202


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


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER ", "bEaReR   "])
async def test_the_scheme_is_of_any_case(server: Addresses, tenant: Tenant, scheme: str) -> None:
    request = head(None, "GET", PING, Authorization=scheme + tenant.key)
    assert (await ask(server.http, request)).status == 200


async def test_space_around_a_header_value_is_not_part_of_it(
    server: Addresses, tenant: Tenant
) -> None:
    request = head(None, "GET", PING, Authorization=f"  Bearer {tenant.key} \t ")
    assert (await ask(server.http, request)).status == 200


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "Bearer",
        "Bearer ",
        "{key}",
        "Bearer{key}",
        "Bearer\t{key}",
        "Bearer {key}x",
        "Bearer {key},",
        'Bearer "{key}"',
        "Bearer {key} {key}",
        "Basic {key}",
        "Token {key}",
        "Basic dXNlcjpwYXNz",
        "Bearer {upper}",
        "Bearer " + "a" * 60_000,
        "Bearer wp_live_" + "é" * 32,
        "Bearer wp_live_" + "\xff" * 32,
        "Bearer wp_test_" + "0" * 32,
        "Bearer ' OR '1'='1",
    ],
    ids=lambda value: str(value)[:24],
)
async def test_any_other_credential_is_an_invalid_key(
    server: Addresses, tenant: Tenant, value: str
) -> None:
    written = value.replace("{key}", tenant.key).replace("{upper}", tenant.key.upper())
    answer = await ask(server.http, head(None, "GET", PING, Authorization=written))
    message = check_error(answer, 401, "invalid_key")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert tenant.key not in message


async def test_two_credentials_are_none(server: Addresses, tenant: Tenant) -> None:
    for second in (tenant.key, UNKNOWN_KEY):
        request = head(tenant.key, "GET", PING, authorization=f"Bearer {second}")
        check_error(await ask(server.http, request), 401, "invalid_key")


async def test_a_key_elsewhere_than_in_its_header_is_no_credential(
    server: Addresses, tenant: Tenant
) -> None:
    request = head(None, "GET", f"{PING}?access_token={tenant.key}", Cookie=f"key={tenant.key}")
    check_error(await ask(server.http, request), 401, "missing_authorization")


async def test_links_in_errors_lead_to_a_page_that_has_their_section(http: HttpDriver) -> None:
    error = (await http.client.get("/nowhere")).json()["error"]
    page, _, section = error["docsUrl"].partition("#")
    answer = await http.client.get(page)
    assert (answer.status_code, section) == (200, "not_found")
    assert f'id="{section}"' in answer.text


async def test_very_long_and_many_headers_are_fine_up_to_a_bound(
    server: Addresses, tenant: Tenant
) -> None:
    long = head(tenant.key, "GET", PING, User_Agent="x" * 60_000)
    assert (await ask(server.http, long)).status == 200
    many = head(tenant.key, "GET", PING, **{f"X_{number}": number for number in range(1_000)})
    assert (await ask(server.http, many)).status == 200


async def test_a_crash_is_enveloped_and_tells_nothing(
    database_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    tenant = await make_tenant(database_url)
    with RunningService(database_url) as service:
        await tenant.rows("ALTER TABLE apps RENAME TO gone")  # no key can be looked up
        async with httpx.AsyncClient(base_url=service.addresses.http) as client:
            for _ in range(2):
                headers = {"Authorization": f"Bearer {UNKNOWN_KEY}"}
                response = await client.get(PING, headers=headers)
                assert response.status_code == 500
                error = response.json()["error"]
                assert error["code"] == "internal_error"
                assert error["requestId"] == response.headers["x-request-id"]
                assert response.headers["x-api-version"] == "2026-04-01"
                assert "apps" not in response.text
        await tenant.rows("ALTER TABLE gone RENAME TO apps")


async def test_a_write_the_database_refuses_is_enveloped_and_tells_nothing(
    database_url: str,
) -> None:
    tenant = await make_tenant(database_url)
    with RunningService(database_url) as service:
        await tenant.rows("ALTER TABLE events ADD CONSTRAINT secret CHECK (event_type = 'none')")
        answer = await ask(service.addresses.http, post(tenant.key, ONE))
        check_error(answer, 500, "internal_error")
        assert b"secret" not in answer.body
        assert answer.headers["x-ratelimit-limit"] == str(FAST)
        await tenant.rows("ALTER TABLE events DROP CONSTRAINT secret")
        assert (await ask(service.addresses.http, post(tenant.key, ONE))).status == 202
    assert await tenant.used() == 1


async def test_a_revoked_key_is_told_so(server: Addresses, new_tenant: MakeTenant) -> None:
    tenant = await new_tenant(expires_us=now_us() + 60_000_000)
    await tenant.revoke()
    answer = await ask(server.http, head(tenant.key, "GET", PING))
    check_error(answer, 401, "key_revoked")
    assert answer.headers["www-authenticate"] == "Bearer"
