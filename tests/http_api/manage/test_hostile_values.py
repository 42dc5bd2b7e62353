"""Values that nobody should send, in every parameter, path and member: never a fault."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import httpx
import pytest

from core import ids
from http_api.paths import MANAGE_PATH
from tests.support.operator_tokens import make_operator
from tests.support.running_service import Addresses
from tests.support.tenant import Tenant

pytestmark = pytest.mark.anyio

AT_ONCE: Final = 4
# As they are in an address.
TEXTS: Final = ("", "a%00b", "%ed%a0%80", "%ff", "-1", "9" * 400, "9999-12-31", "org_" + "Z" * 26)
CURSORS: Final = (
    b"null",
    b"9223372036854775808",
    b'"\\ud800"',
    b'"9999-12-31T23:59:59-23:59"',
    b'["a\\u0000","00000000-0000-0000-0000-000000000000","x"]',
    b"[" * 1_400,
    b"\xff",
)
BODIES: Final = (b"", b"[]", b"\xff", b"[" * 5_000, b"9" * 60_000, b'{"name": "\\ud800"}')
VALUES: Final[tuple[Any, ...]] = (
    None,
    -1,
    0,
    10**30,
    1e308,
    "a\0b",
    "\ud800",
    ["\ud800"],
    "9999-12-31T23:59:59-23:59",
    "0001-01-01T00:00:00+23:59",
)
VALID: Final = {"name": "x", "slug": "x", "displayName": "x", "eventTypes": ["a.b"]}
JSON: Final = {"Content-Type": "application/json"}


class Request(NamedTuple):
    """A request with one value that is odd."""

    method: str
    path: str
    body: bytes = b"{}"


def requests(document: dict[str, Any], known: dict[str, str]) -> Iterator[Request]:
    """A request for each operation, place and odd value."""
    cursors = [base64.urlsafe_b64encode(text).decode() for text in CURSORS]
    for path, methods in document["paths"].items():
        for name, operation in methods.items():
            method, good = name.upper(), path.format(**known)
            for one in operation.get("parameters", ()):
                for text in [*TEXTS, *(cursors if one["name"] == "cursor" else ())]:
                    if one["in"] == "path":
                        yield Request(method, path.format(**{**known, one["name"]: text}))
                    else:
                        yield Request(method, f"{good}?{one['name']}={text}")
            if "requestBody" not in operation:
                continue
            yield from (Request(method, good, body) for body in BODIES)
            schema = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
            members = document["components"]["schemas"][schema.rpartition("/")[2]]["properties"]
            valid = {member: value for member, value in VALID.items() if member in members}
            for member in members:
                for value in VALUES:
                    body = json.dumps({**valid, member: value}).encode()
                    yield Request(method, good, body)


async def test_no_value_is_a_fault_of_the_service(server: Addresses, tenant: Tenant) -> None:
    _, token = await make_operator(server.database_url)
    headers = {"Authorization": f"Bearer {token}", **JSON}
    url = f"{server.http}{MANAGE_PATH}"
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as client:
        workers = f"/organizations/{tenant.organization_id}/workers"
        worker = (await client.post(workers, json={"displayName": "Ann"})).json()
        known = {
            "organizationId": tenant.organization_id,
            "appId": ids.text(ids.APP, tenant.app.id),
            "keyId": ids.text(ids.KEY, tenant.api_key.id),
            "workerId": worker["id"],
        }
        document = (await client.get("/openapi.json")).json()
        wanted = list(requests(document, known))
        left = iter(wanted)
        faults: list[tuple[Request, int]] = []

        async def ask() -> None:
            for one in left:
                answer = await client.request(one.method, one.path, content=one.body)
                if answer.status_code >= 500:
                    faults.append((one, answer.status_code))

        await asyncio.gather(*(ask() for _ in range(AT_ONCE)))
    assert len(wanted) > 300
    assert faults == []
