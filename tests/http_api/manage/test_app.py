"""The management API as a whole: who is let in, its bounds, its document, a cell that is away."""

from __future__ import annotations

import asyncio
import re
from typing import Any, cast

import httpx
import jsonschema_rs
import pytest
from schemathesis.specs.openapi.definitions import OPENAPI_31

from core import ids
from core.admin import removal
from core.admin.administration import Administration
from core.error_codes import OPERATOR_ERRORS, OperatorCode, docs_url
from http_api.attempts import MAX_UNKNOWN_A_MINUTE, Attempts
from http_api.docs.reference import render_reference
from http_api.manage import apps, bounds, organizations
from http_api.manage.app import TAGS, create_manage_app
from http_api.manage.errors import HTTP_STATUS
from http_api.paths import MANAGE_PATH
from http_api.site import Site
from tests.support.cells import add_cell, make_tenant_in
from tests.support.operator_tokens import make_operator
from tests.support.postgres_server import postgres_server
from tests.support.running_service import Addresses, RunningService
from tests.support.tenant import make_tenant

pytestmark = pytest.mark.anyio

BASE_URL = "https://ingest.example"
DOCUMENT: dict[str, Any] = create_manage_app(
    cast("Administration", None), BASE_URL, cast("Attempts", None)
).openapi()
NOTHING = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
OPERATIONS = [
    (method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods
]
WRITES = [one for one in OPERATIONS if one[0] != "GET"]


def of_nothing(path: str) -> str:
    """The path with ids that nothing has."""
    for name in ("organization", "app", "key", "worker"):
        prefix = {"organization": "org_", "worker": "wrk_"}.get(name, f"{name}_")
        path = path.replace(f"{{{name}Id}}", f"{prefix}{NOTHING}")
    return path


async def client_of(server: Addresses, scope: Any = "write") -> httpx.AsyncClient:
    _, token = await make_operator(server.database_url, scope)
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.AsyncClient(base_url=f"{server.http}{MANAGE_PATH}", headers=headers, timeout=60)


def code(answer: httpx.Response) -> tuple[int, str]:
    """The status and the code of an error, which has the envelope and may not be kept."""
    error = answer.json()["error"]
    assert error["requestId"] == answer.headers["x-request-id"]
    assert error["docsUrl"].endswith(f"/developers/reference#{error['code']}")
    assert answer.headers["cache-control"] == "no-store"
    assert HTTP_STATUS[OperatorCode(error["code"])] == answer.status_code
    return answer.status_code, error["code"]


def test_the_document_is_valid_openapi_3_1() -> None:
    official: dict[str, Any] = dict(OPENAPI_31)
    official["$defs"] = {
        **official["$defs"],
        "schema": {
            "$ref": "https://json-schema.org/draft/2020-12/schema",
            "$dynamicAnchor": "meta",
        },
    }
    problems = [
        f"{error.instance_path}: {error.message}"
        for error in jsonschema_rs.Draft202012Validator(official).iter_errors(DOCUMENT)
    ]
    assert problems == []


def test_operations_are_named_described_and_tell_their_errors() -> None:
    operations = [
        operation for methods in DOCUMENT["paths"].values() for operation in methods.values()
    ]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    assert {"listEvents", "createKey", "removeOrganization", "listAudit"} <= set(names)
    for operation in operations:
        assert re.fullmatch(r"[a-z][A-Za-z]+", operation["operationId"])
        assert operation["description"]
        assert operation["security"] == [{"operatorToken": []}]
        assert set(operation["tags"]) <= set(TAGS)
        assert {"401", "503", "default"} <= operation["responses"].keys()
        assert "422" not in operation["responses"]


def test_each_code_has_a_section_of_the_reference() -> None:
    page = render_reference(Site(BASE_URL, "ingest.example:50051")).decode()
    assert set(OPERATOR_ERRORS) == set(OperatorCode) == set(HTTP_STATUS)
    for one in OperatorCode:
        assert docs_url(BASE_URL, one).startswith(f"{BASE_URL}/developers/reference#")
        assert page.count(f'id="{one}"') == 1
    assert f'href="{MANAGE_PATH}/openapi.json"' in page


async def test_the_document_is_for_anybody(server: Addresses) -> None:
    async with httpx.AsyncClient(base_url=server.http) as client:
        answer = await client.get(f"{MANAGE_PATH}/openapi.json")
    assert answer.status_code == 200
    assert answer.json()["paths"].keys() == DOCUMENT["paths"].keys()
    assert answer.json()["servers"] == [{"url": f"{server.http}{MANAGE_PATH}"}]


async def test_every_operation_wants_a_token_and_a_change_the_scope(server: Addresses) -> None:
    async with httpx.AsyncClient(base_url=f"{server.http}{MANAGE_PATH}") as stranger:
        for method, path in OPERATIONS:
            answer = await stranger.request(method, of_nothing(path), json={})
            assert code(answer) == (401, "missing_token")
    async with await client_of(server, "read") as reader:
        for method, path in WRITES:
            answer = await reader.request(method, of_nothing(path), json={})
            assert code(answer) == (403, "read_only"), path


async def test_what_is_not_there_and_what_is_wrong(server: Addresses) -> None:
    tenant = await make_tenant(server.database_url)
    mine = f"/organizations/{tenant.organization_id}"
    async with await client_of(server) as client:
        for path in (
            "/nothing",
            "/organizations/Acme",
            f"/organizations/org_{NOTHING}/events",
            f"{mine}/apps/app_{NOTHING}",
            f"{mine}/keys/{ids.text(ids.APP, tenant.app.id)}",
            f"{mine}/workers/wrk_{NOTHING}",
        ):
            assert code(await client.get(path)) == (404, "not_found"), path
        refused = await client.put(mine)
        assert code(refused) == (405, "method_not_allowed")
        for path in (
            "/organizations?limit=0",
            "/organizations?limit=201",
            "/organizations?cursor=x",
            "/organizations?cursor=IlwwIg==",
            "/organizations?cursor=IlxcdTAwMDAi",
            "/organizations?order=name",
            f"{mine}/events?cursor=MQ==",
            f"{mine}/events?day=yesterday",
            f"{mine}/events?category=none",
            f"{mine}/events?eventType=%00",
            f"{mine}/workers?search=%00",
            f"{mine}/rejections?requestId=%00",
            f"{mine}/rejections?appId=crm",
            f"{mine}/usage?minutes=0",
        ):
            assert code(await client.get(path)) == (400, "invalid_value"), path
        for body in (
            {},
            {"name": 1},
            {"name": "x\0"},
            {"name": "x", "quota": 1},
            {"name": "x", "cell": "\0"},
            [1],
        ):
            answer = await client.post("/organizations", json=body)
            assert code(answer) == (400, "invalid_value"), body
        broken = await client.post(
            "/organizations", content=b"{", headers={"Content-Type": "application/json"}
        )
        assert code(broken) == (400, "invalid_value")
        answer = await client.delete(mine, params={"confirm": "another"})
        assert code(answer) == (400, "invalid_value")
        assert (await client.get(mine)).status_code == 200
        head = await client.head(mine)
        assert (head.status_code, head.content) == (200, b"")


async def test_a_body_is_bounded(server: Addresses) -> None:
    async def chunks() -> Any:
        for _ in range(3):
            yield b" " * 30_000

    async with await client_of(server) as client:
        for content in (b" " * (bounds.MAX_BODY_BYTES + 1), chunks()):
            answer = await client.post(
                "/organizations", content=content, headers={"Content-Type": "application/json"}
            )
            assert code(answer) == (413, "body_too_large")


async def test_an_answer_is_due(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "ANSWER_SECONDS", 0.2)
    tenant = await make_tenant(database_url)
    with RunningService(database_url) as service:
        async with (
            await client_of(service.addresses) as client,
            await tenant.connect() as db,
            db.transaction(),
        ):
            await db.execute("LOCK TABLE organizations IN ACCESS EXCLUSIVE MODE")
            answer = await client.get(f"/organizations/{tenant.organization_id}")
            assert code(answer) == (503, "unavailable")
            assert int(answer.headers["retry-after"]) >= 1


async def test_unknown_tokens_are_bounded_and_known_ones_are_not(server: Addresses) -> None:
    def from_address(number: int) -> httpx.AsyncHTTPTransport:
        return httpx.AsyncHTTPTransport(local_address=f"127.0.0.{number}")

    _, known = await make_operator(server.database_url)
    _, newcomer = await make_operator(server.database_url)
    url = f"{server.http}{MANAGE_PATH}/operator"

    async with (
        httpx.AsyncClient(transport=from_address(81)) as client,
        httpx.AsyncClient(transport=from_address(82)) as other,
    ):

        async def status(client: httpx.AsyncClient, token: str) -> int:
            answer = await client.get(url, headers={"Authorization": f"Bearer {token}"})
            if answer.status_code == 429:
                assert code(answer) == (429, "too_many_attempts")
                assert 1 <= int(answer.headers["retry-after"]) <= 60
            return answer.status_code

        for number in range(MAX_UNKNOWN_A_MINUTE):
            assert await status(client, known) == 200
            assert await status(client, f"wp_ops_{number:032x}") == 401
        assert await status(client, "wp_ops_" + "f" * 32) == 429
        assert await status(client, known) == 200
        assert await status(client, newcomer) == 429
        assert await status(other, newcomer) == 200
        assert await status(client, newcomer) == 200


async def test_what_is_not_removed_in_time_is_removed_by_the_next_request(
    server: Addresses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "QUIET_SECONDS", 0.0)
    tenant = await make_tenant(server.database_url)
    mine = f"/organizations/{tenant.organization_id}"
    app = f"{mine}/apps/{ids.text(ids.APP, tenant.app.id)}"
    async with await client_of(server) as client:
        for path, module, name in (
            (app, apps, tenant.app.slug),
            (mine, organizations, tenant.organization.name),
        ):
            with monkeypatch.context() as patched:
                patched.setattr(module, "REMOVAL_SECONDS", -1.0)
                answer = await client.delete(path, params={"confirm": name})
            assert (answer.status_code, answer.json()["removed"]) == (202, False)
            answer = await client.delete(path, params={"confirm": name})
            assert (answer.status_code, answer.json()["removed"]) == (200, True)
            assert code(await client.get(path)) == (404, "not_found")


async def test_a_cell_that_is_away_is_named(database_url: str) -> None:
    with postgres_server() as north_server, RunningService(database_url) as service:
        url = north_server.conninfo
        north = await add_cell(database_url, "north", url)
        away = await make_tenant_in(north, database_url)
        here = await make_tenant(database_url, cell_name="home")
        async with await client_of(service.addresses) as client:
            listed = (await client.get("/organizations")).json()
            assert {one["cell"] for one in listed["items"]} == {"home", "north"}
            assert listed["leftOut"] == []
            north_server.kill()
            try:
                listed = (await client.get("/organizations")).json()
                assert [one["id"] for one in listed["items"]] == [here.organization_id]
                assert listed["leftOut"] == ["north"]
                answer = await client.get(f"/organizations/{away.organization_id}/events")
                assert code(answer) == (503, "unavailable")
                assert int(answer.headers["retry-after"]) >= 1
                answer = await client.get(f"/organizations/{here.organization_id}/events")
                assert answer.status_code == 200
            finally:
                north_server.start()


@pytest.mark.timed
async def test_many_slow_requests_of_operators_slow_no_ingest(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    with RunningService(database_url) as service:
        ingest = httpx.AsyncClient(
            base_url=service.addresses.http, headers={"Authorization": f"Bearer {tenant.key}"}
        )

        async def slowest(count: int) -> float:
            loop = asyncio.get_running_loop()
            worst = 0.0
            for _ in range(count):
                begun = loop.time()
                answer = await ingest.post(
                    "/api/v1/ingest/events",
                    json={
                        "events": [
                            {
                                "eventType": "ticket.resolved",
                                "category": "other",
                                "actor": {"externalId": "a"},
                            }
                        ]
                    },
                )
                assert answer.status_code == 202
                worst = max(worst, loop.time() - begun)
            return worst

        async with (
            ingest,
            await client_of(service.addresses) as client,
            await tenant.connect() as db,
        ):
            usual = await slowest(50)
            async with db.transaction():
                # Which only operators read.
                await db.execute("LOCK TABLE rejections IN ACCESS EXCLUSIVE MODE")
                path = f"/organizations/{tenant.organization_id}/rejections"
                waiting = [asyncio.create_task(client.get(path)) for _ in range(200)]
                beside = await slowest(50)
                assert not all(task.done() for task in waiting)
            answers = await asyncio.gather(*waiting)
        # On a quick machine some are over the operator's own rate.
        assert {answer.status_code for answer in answers} <= {200, 429, 503}
        assert beside <= max(0.5, 50 * usual)
