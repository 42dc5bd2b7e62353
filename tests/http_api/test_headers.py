"""The header fields of a request: credential, type of the body, idempotency key."""

from __future__ import annotations

import json

import pytest

from tests.support.raw_http import (
    EVENTS,
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
    UNKNOWN_KEY,
    Tenant,
    event,
    snapshot,
)

pytestmark = pytest.mark.anyio


async def accepted(server: Addresses, request: bytes) -> bool:
    answer = await ask(server.http, request)
    return (answer.status, answer.json.get("accepted")) == (202, 1)


class TestContentType:
    @pytest.mark.parametrize(
        "content_type",
        [
            "application/json",
            "Application/JSON",
            "application/json; charset=utf-8",
            'application/json;charset="UTF-8"',
            "application/json; charset=utf8",
            "application/json;",
            "application/json; profile=x; charset=utf-8",
            "application/json; version=1",
        ],
    )
    async def test_json_is_understood(
        self, server: Addresses, tenant: Tenant, content_type: str
    ) -> None:
        assert await accepted(server, post(tenant.key, ONE, Content_Type=content_type))

    @pytest.mark.parametrize(
        "content_type",
        [
            None,
            "",
            "text/plain",
            "text/json",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "application/jsonl",
            "application/json, application/json",
            "application/vnd.api+json",
            "application/json; charset=utf-16",
            "application/json; version=1; charset=latin-1",
            "*/*",
        ],
    )
    @pytest.mark.parametrize("path", [EVENTS, SNAPSHOTS])
    async def test_anything_else_is_refused(
        self, server: Addresses, tenant: Tenant, path: str, content_type: str | None
    ) -> None:
        answer = await ask(server.http, post(tenant.key, ONE, path, Content_Type=content_type))
        assert "Content-Type" in check_error(answer, 400, "invalid_body")


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
        "Bearer " + "a" * 30_000,
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


async def test_very_long_and_many_headers_are_fine_up_to_a_bound(
    server: Addresses, tenant: Tenant
) -> None:
    long = head(tenant.key, "GET", PING, User_Agent="x" * 30_000)
    assert (await ask(server.http, long)).status == 200
    many = head(tenant.key, "GET", PING, **{f"X_{number}": number for number in range(100)})
    assert (await ask(server.http, many)).status == 200


WHOLE = {"events": [event("a"), event("b", timestamp="2026-04-19T14:05:00.120+02:00")]}


@pytest.mark.parametrize(
    "key", ["é" * 200, "😀" * 200, "a b:c;d,e\"f'", "x" * 200, "\\u0041", "%41"], ids=ascii
)
async def test_a_key_of_any_text_is_kept_as_sent(
    server: Addresses, tenant: Tenant, key: str
) -> None:
    on_the_wire = key.encode().decode("latin-1")
    body = json.dumps(WHOLE).encode()
    request = post(tenant.key, body, Idempotency_Key=on_the_wire)
    first, replay = await ask(server.http, request), await ask(server.http, request)
    assert first.status == 202
    assert replay.headers["idempotency-replayed"] == "true"
    rows = await tenant.rows(
        "SELECT idempotency_key FROM idempotency_keys WHERE organization_id = %s",
        tenant.organization.id,
    )
    assert [row["idempotency_key"] for row in rows] == [key]


async def test_a_key_in_latin_1_is_kept_too(server: Addresses, tenant: Tenant) -> None:
    request = post(tenant.key, json.dumps(WHOLE).encode(), Idempotency_Key="caf\xe9")
    first, replay = await ask(server.http, request), await ask(server.http, request)
    assert (first.status, replay.body) == (202, first.body)


@pytest.mark.parametrize("key", ["", "x" * 201, "é" * 201, "x" * 30_000], ids=len)
@pytest.mark.parametrize(("path", "body"), [(EVENTS, WHOLE), (SNAPSHOTS, snapshot())])
async def test_a_key_of_a_wrong_length_is_refused(
    server: Addresses, tenant: Tenant, path: str, body: object, key: str
) -> None:
    on_the_wire = key.encode().decode("latin-1")
    request = post(tenant.key, json.dumps(body).encode(), path, Idempotency_Key=on_the_wire)
    message = check_error(await ask(server.http, request), 400, "invalid_body")
    assert message.startswith("Idempotency-Key: must be 1 to 200 characters")


async def test_two_keys_are_refused(server: Addresses, tenant: Tenant) -> None:
    body = json.dumps(WHOLE).encode()
    request = post(tenant.key, body, Idempotency_Key="a", idempotency_key="a")
    assert "once" in check_error(await ask(server.http, request), 400, "invalid_body")
