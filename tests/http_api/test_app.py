"""Paths, methods and failures: every error is enveloped (contract section 3)."""

from __future__ import annotations

import re

import httpx
import psycopg
import pytest

from core.ingest import Ingestor
from http_api.app import PAGE_UNITS
from tests.conftest import MakeTenant
from tests.support.http_driver import HttpDriver
from tests.support.raw_http import (
    EVENTS,
    ONE,
    PING,
    SNAPSHOTS,
    ask,
    check_error,
    connect,
    head,
    post,
)
from tests.support.running_service import Addresses, RunningService
from tests.support.tenant import (
    FAST,
    Tenant,
    make_tenant,
    now_us,
)
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio


REQUEST_ID = re.compile(r"req_[0-9A-HJKMNP-TV-Z]{26}")


@pytest.mark.parametrize("path", [PING, EVENTS, SNAPSHOTS, "/nothing", "/healthz", "/metrics"])
async def test_another_method_waits_for_its_turn_as_a_page_does(
    server: Addresses, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    turns = []
    begin = Ingestor.begin_unkeyed

    async def noted(ingestor: Ingestor, units: int) -> None:
        turns.append(units)
        await begin(ingestor, units)

    monkeypatch.setattr(Ingestor, "begin_unkeyed", noted)
    for method in ("DELETE", "OPTIONS"):
        assert (await ask(server.http, head(None, method, path))).status in (404, 405)
    assert turns == [PAGE_UNITS] * 2


@pytest.mark.parametrize(
    "path", ["/nothing", "/api", "/api/v1/ingest", "/api/v2/ingest/events", "/doc", "/openapi"]
)
async def test_an_unknown_path_is_enveloped(server: Addresses, path: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        check_error(await ask(server.http, head(None, method, path)), 404, "not_found")


BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_browser_gets_a_page_where_a_program_gets_the_envelope(
    server: Addresses, method: str
) -> None:
    for accept in ("*/*", "application/json", "text/html;q=0.5, application/json"):
        answer = await ask(server.http, head(None, method, "/nothing", Accept=accept))
        check_error(answer, 404, "not_found")
        assert answer.headers["vary"] == "Accept"
    answer = await ask(server.http, head(None, method, "/nothing?<b>", Accept=BROWSER))
    assert (answer.status, answer.headers["vary"]) == (404, "Accept")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; ")
    for said in ("not_found", answer.headers["x-request-id"], 'href="/developers/reference"'):
        assert said in answer.body.decode()
    answer = await ask(server.http, head(None, "POST", "/developers", Accept=BROWSER))
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
    assert "method_not_allowed" in answer.body.decode()


@pytest.mark.parametrize("path", ["/api", "/api/v1/nothing", EVENTS, PING])
async def test_the_api_speaks_json_to_browsers_too(server: Addresses, path: str) -> None:
    answer = await ask(server.http, head(None, "GET", path, Accept=BROWSER))
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("path", "target"),
    [("/", "/developers"), ("/docs", "/developers/docs"), ("/redoc", "/developers/reference")],
)
async def test_paths_that_people_try_lead_to_the_portal(
    http: HttpDriver, path: str, target: str
) -> None:
    for spelling in {path, f"{path.rstrip('/')}/"}:
        answer = await http.client.get(spelling)
        assert (answer.status_code, answer.headers["location"]) == (307, target)
        assert (await http.client.get(target)).status_code == 200


@pytest.mark.parametrize("path", [EVENTS, SNAPSHOTS, PING])
@pytest.mark.parametrize("change", ["{}/", "/{}", "{}%2f", "{}/../events/"])
async def test_a_path_is_only_what_it_is(server: Addresses, path: str, change: str) -> None:
    check_error(await ask(server.http, head(None, "GET", change.format(path))), 404, "not_found")


@pytest.mark.parametrize("path", ["/%6Detrics", "/%6d%65trics", "/%72eadyz", "/%68ealthz"])
async def test_escapes_lead_to_no_operator_page(server: Addresses, path: str) -> None:
    check_error(await ask(server.http, head(None, "GET", path)), 404, "not_found")


@pytest.mark.parametrize(
    ("path", "loads"),
    [
        *(("/developers", True), ("/developers/reference", True), ("/developers/explorer", True)),
        *(
            ("/openapi/v1.yaml", False),
            ("/metrics", False),
            ("/developers/assets/portal.js", False),
        ),
    ],
)
async def test_pages_are_told_to_load_only_from_here(
    http: HttpDriver, path: str, loads: bool
) -> None:
    headers = (await http.client.get(path)).headers
    assert headers["content-security-policy"].startswith("default-src 'none'; ")
    assert "unsafe" not in headers["content-security-policy"]
    assert ("script-src 'self'" in headers["content-security-policy"]) is loads
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        *((PING, "GET, HEAD"), (EVENTS, "POST"), (SNAPSHOTS, "POST")),
        *(("/healthz", "GET, HEAD"), ("/readyz", "GET, HEAD"), ("/metrics", "GET, HEAD")),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
async def test_a_wrong_method_names_the_right_one(
    server: Addresses, path: str, allowed: str, method: str
) -> None:
    answer = await ask(server.http, head(None, method, path))
    if method in allowed.split(", "):
        assert "allow" not in answer.headers
    else:
        check_error(answer, 405, "method_not_allowed")
        assert answer.headers["allow"] == allowed


@pytest.mark.parametrize(
    "path",
    [
        *(PING, "/healthz", "/readyz", "/metrics", "/developers/reference", "/openapi/v1.yaml"),
        *("/openapi.json", "/nowhere", EVENTS),
    ],
)
@pytest.mark.parametrize("with_key", [True, False])
async def test_head_is_answered_as_get_without_the_body(
    server: Addresses, tenant: Tenant, path: str, with_key: bool
) -> None:
    key = tenant.key if with_key else None
    async with connect(server.http) as connection:
        await connection.send(head(key, "GET", path))
        whole = await connection.answer()
        await connection.send(head(key, "HEAD", path))
        answer = await connection.answer(of_head=True)
        await connection.send(head(key, "GET", path))  # the connection is in step
        assert (await connection.answer()).status == whole.status
    assert (answer.status, answer.body) == (whole.status, b"")
    assert REQUEST_ID.fullmatch(answer.headers["x-request-id"])
    varying = {"x-request-id", "date", "x-ratelimit-remaining"}
    if path == "/metrics":
        varying.add("content-length")
    for headers in (whole.headers, answer.headers):
        for name in varying:
            headers.pop(name, None)
    assert answer.headers == whole.headers


@pytest.mark.parametrize("query", ["?", "?a=b", "?events=[]&limit=%00", "?" + "x" * 8_000])
async def test_query_strings_are_ignored(server: Addresses, tenant: Tenant, query: str) -> None:
    assert (await ask(server.http, head(tenant.key, "GET", PING + query))).status == 200
    assert (await ask(server.http, post(tenant.key, ONE, EVENTS + query))).status == 202


async def test_links_in_errors_lead_to_a_page_that_has_their_section(http: HttpDriver) -> None:
    error = (await http.client.get("/nowhere")).json()["error"]
    page, _, section = error["docsUrl"].partition("#")
    answer = await http.client.get(page)
    assert (answer.status_code, section) == (200, "not_found")
    assert f'id="{section}"' in answer.text


async def test_a_crash_is_enveloped_and_tells_nothing(
    database_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    tenant = await make_tenant(database_url)
    with RunningService(database_url) as service:
        await tenant.rows("ALTER TABLE apps RENAME TO gone")  # no key can be looked up
        async with httpx.AsyncClient(base_url=service.addresses.http) as client:
            for _ in range(2):
                headers = {"Authorization": f"Bearer {tenant.key}"}
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


@pytest.mark.parametrize(("path", "status"), [("/healthz", "ok"), ("/readyz", "ready")])
async def test_a_healthy_service_says_so(http: HttpDriver, path: str, status: str) -> None:
    response = await http.client.get(path)
    assert (response.status_code, response.json()) == (200, {"status": status})
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"].startswith("req_")


async def test_a_database_without_our_schema_is_not_ready(database_url: str) -> None:
    with RunningService(database_url) as service, psycopg.connect(database_url) as db:
        db.execute("DELETE FROM schema_migrations")
        db.commit()
        async with httpx.AsyncClient(base_url=service.addresses.http) as client:

            async def is_not_ready() -> bool:
                response = await client.get("/readyz")
                return (response.status_code, response.json()["status"]) == (503, "not ready")

            await eventually(is_not_ready, "the service is not ready", seconds=5)
            assert (await client.get("/healthz")).status_code == 200


async def test_a_client_that_goes_away_is_no_failure_of_the_service(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    count = 'wepeople_requests_total{{code="{}",endpoint="events",protocol="http"}} {}\n'
    with RunningService(database_url) as service:
        async with connect(service.addresses.http) as connection:
            await connection.send(head(tenant.key, Content_Length=100) + b"{")
        http = HttpDriver(service.addresses.http)

        async def page() -> str:
            return (await http.client.get("/metrics")).text

        async def is_counted() -> bool:
            return count.format("cancelled", "0.0") not in await page()

        await eventually(is_counted, "the request has ended as cancelled")
        assert count.format("internal_error", "0.0") in await page()
        await http.close()
