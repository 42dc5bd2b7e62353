"""Browsers: pages of any origin read the documents and call the endpoints, and nothing else."""

from __future__ import annotations

import pytest

from tests.conftest import MakeTenant
from tests.support.raw_http import (
    EVENTS,
    ONE,
    PING,
    SNAPSHOTS,
    Answer,
    ask,
    check_error,
    connect,
    head,
    post,
)
from tests.support.running_service import Addresses
from tests.support.tenant import UNKNOWN_KEY, Tenant

pytestmark = pytest.mark.anyio

ORIGIN = "https://editor.example"
DOCUMENTS = ("/openapi/v1.yaml", "/openapi.json", "/developers/reference", "/developers")
EXPOSED = {
    *("x-request-id", "x-api-version", "x-ratelimit-limit", "x-ratelimit-remaining"),
    *("retry-after", "idempotency-replayed", "www-authenticate"),
}


def names(value: str) -> set[str]:
    """The members of a list in a header, in lower case."""
    return {name.strip().lower() for name in value.split(",")}


def check_readable(answer: Answer) -> None:
    """A page of another origin can read the answer, and the headers that are the service's own."""
    assert answer.headers["access-control-allow-origin"] == "*"
    assert names(answer.headers["access-control-expose-headers"]) == EXPOSED
    assert "access-control-allow-credentials" not in answer.headers


def check_closed(answer: Answer) -> None:
    """A page of another origin learns nothing."""
    assert not [name for name in answer.headers if name.startswith("access-control-")]


def preflight(path: str, method: str, origin: str | None = ORIGIN) -> bytes:
    """What a browser asks before a request that has a credential."""
    return head(
        None,
        "OPTIONS",
        path,
        Content_Type=None,
        Origin=origin,
        Access_Control_Request_Method=method,
        Access_Control_Request_Headers="authorization,content-type,idempotency-key",
    )


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        (PING, {"get", "head"}),
        (EVENTS, {"post"}),
        (SNAPSHOTS, {"post"}),
        *((path, {"get", "head"}) for path in DOCUMENTS),
    ],
)
async def test_a_preflight_is_answered_without_a_key_and_kept(
    server: Addresses, path: str, methods: set[str]
) -> None:
    answer = await ask(server.http, preflight(path, "POST"))
    assert (answer.status, answer.body) == (204, b"")
    check_readable(answer)
    assert names(answer.headers["access-control-allow-methods"]) == methods
    assert names(answer.headers["access-control-allow-headers"]) == {
        *("authorization", "content-type", "idempotency-key")
    }
    assert answer.headers["access-control-max-age"] == "7200"
    assert "x-ratelimit-limit" not in answer.headers
    assert answer.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize("path", [PING, EVENTS, SNAPSHOTS])
async def test_options_that_are_no_preflight_are_a_wrong_method(
    server: Addresses, path: str
) -> None:
    check_error(await ask(server.http, preflight(path, "POST", None)), 405, "method_not_allowed")
    answer = await ask(server.http, head(None, "OPTIONS", path, Origin=ORIGIN))
    check_error(answer, 405, "method_not_allowed")
    check_readable(answer)


async def test_answers_can_be_read_from_another_origin(server: Addresses, tenant: Tenant) -> None:
    for request, status in (
        (head(tenant.key, "GET", PING, Origin=ORIGIN), 200),
        (post(tenant.key, ONE, Origin=ORIGIN), 202),
        (post(tenant.key, ONE, Origin="null"), 202),
    ):
        answer = await ask(server.http, request)
        assert answer.status == status
        check_readable(answer)


async def test_errors_can_be_read_from_another_origin(
    server: Addresses, tenant: Tenant, new_tenant: MakeTenant
) -> None:
    slow = await new_tenant(key_requests_per_second=1)
    for request, status in (
        (head(None, "GET", PING, Origin=ORIGIN), 401),
        (post(UNKNOWN_KEY, ONE, Origin=ORIGIN), 401),
        (post(tenant.key, b"{", Origin=ORIGIN), 400),
        (post(tenant.key, b"{", SNAPSHOTS, Origin=ORIGIN), 400),
        (head(tenant.key, "PUT", EVENTS, Origin=ORIGIN), 405),
    ):
        answer = await ask(server.http, request)
        assert answer.status == status
        check_readable(answer)
    answer = await ask(server.http, head(slow.key, "GET", PING, Origin=ORIGIN))
    for _ in range(20):  # on a busy machine there may be a token again
        if answer.status == 429:
            break
        answer = await ask(server.http, head(slow.key, "GET", PING, Origin=ORIGIN))
    assert answer.status == 429
    check_readable(answer)


@pytest.mark.parametrize("path", DOCUMENTS)
@pytest.mark.parametrize("spelling", ["{}", "{}/"])
async def test_documents_can_be_read_from_another_origin(
    server: Addresses, path: str, spelling: str
) -> None:
    # Without an Origin, too: a cache may hand the answer on to a page that has one.
    for origin in (ORIGIN, None):
        for method in ("GET", "HEAD"):
            async with connect(server.http) as connection:
                await connection.send(head(None, method, spelling.format(path), Origin=origin))
                answer = await connection.answer(of_head=method == "HEAD")
            assert answer.status == 200
            check_readable(answer)


async def test_requests_without_an_origin_get_no_headers_for_one(
    server: Addresses, tenant: Tenant
) -> None:
    check_closed(await ask(server.http, post(tenant.key, ONE)))
    check_closed(await ask(server.http, head(tenant.key, "GET", PING)))


@pytest.mark.parametrize(
    "path", ["/", "/healthz", "/readyz", "/metrics", "/console", "/api/v1/manage", f"{PING}/"]
)
async def test_nothing_else_can_be_read_from_another_origin(
    server: Addresses, tenant: Tenant, path: str
) -> None:
    check_closed(await ask(server.http, head(tenant.key, "GET", path, Origin=ORIGIN)))
    answer = await ask(server.http, preflight(path, "GET"))
    assert answer.status in (404, 405)
    check_closed(answer)
