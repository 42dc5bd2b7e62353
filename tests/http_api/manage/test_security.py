"""The credential of the management API, on a running service."""

from __future__ import annotations

import httpx
import pytest

from core import ids
from core.admin import as_json, operators
from core.admin.cell_sessions import at_home
from core.postgres.sessions import connect
from http_api.paths import MANAGE_PATH
from tests.support.operator_tokens import make_operator
from tests.support.running_service import Addresses
from tests.support.tenant import make_tenant, now_us

pytestmark = pytest.mark.anyio


async def get(server: Addresses, authorization: str | None) -> httpx.Response:
    """The answer to who asks who it is."""
    headers = {} if authorization is None else {"Authorization": authorization}
    async with httpx.AsyncClient(base_url=server.http) as client:
        return await client.get(f"{MANAGE_PATH}/operator", headers=headers)


async def test_a_token_tells_its_operator(server: Addresses) -> None:
    operator, token = await make_operator(server.database_url, "read")
    answer = await get(server, f"Bearer {token}")
    assert answer.status_code == 200
    assert answer.json() == {
        "id": ids.text(ids.OPERATOR, operator.id),
        "name": operator.name,
        "scope": "read",
        "endsIn": token[-4:],
        "state": "active",
        "createdAt": as_json.moment(operator.created_at),
        "expiresAt": None,
        "revokedAt": None,
        "lastUsedAt": None,
    }
    assert answer.headers["x-request-id"].startswith("req_")
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("authorization", [None, "", "Basic YTpi", "wp_ops_0"])
async def test_a_request_without_a_token_is_refused(
    server: Addresses, authorization: str | None
) -> None:
    answer = await get(server, authorization)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "missing_token")
    assert answer.json()["error"]["requestId"] == answer.headers["x-request-id"]
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_an_api_key_is_no_token_and_a_token_no_api_key(server: Addresses) -> None:
    tenant = await make_tenant(server.database_url)
    _, token = await make_operator(server.database_url)
    answer = await get(server, f"Bearer {tenant.key}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_token")
    async with httpx.AsyncClient(base_url=server.http) as client:
        headers = {"Authorization": f"Bearer {token}"}
        ping = await client.get("/api/v1/ingest/ping", headers=headers)
    assert (ping.status_code, ping.json()["error"]["code"]) == (401, "invalid_key")


async def test_a_revoked_token_is_refused_at_once(server: Addresses) -> None:
    operator, token = await make_operator(server.database_url)
    assert (await get(server, f"Bearer {token}")).status_code == 200
    async with await connect(server.database_url) as db:
        await operators.revoke(at_home(db), operator, now_us())
    answer = await get(server, f"Bearer {token}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_token")
