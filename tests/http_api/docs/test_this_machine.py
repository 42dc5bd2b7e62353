"""The demo's key is for readers at this machine alone."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from http_api.docs.portal import documents
from http_api.docs.this_machine import is_from_this_machine, leads_to_this_machine
from http_api.paths import OVERVIEW_PATH
from http_api.site import Site

pytestmark = pytest.mark.anyio

KEY = "wp_live_00000000000000000000000000000000"


def request(
    peer: str = "127.0.0.1", host: str = "localhost:8000", version: str = "1.1", **headers: str
) -> Request:
    fields = {"host": host, **{name.replace("_", "-"): text for name, text in headers.items()}}
    return Request(
        {
            "type": "http",
            "http_version": version,
            "client": (peer, 50_000),
            "headers": [(name.encode(), text.encode()) for name, text in fields.items()],
        }
    )


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.0.0.2", "::1"])
@pytest.mark.parametrize("host", ["localhost:8000", "LOCALHOST", "127.0.0.1", "[::1]:8000"])
def test_this_machine(peer: str, host: str) -> None:
    assert is_from_this_machine(request(peer, host))
    assert leads_to_this_machine(f"http://{host}")


@pytest.mark.parametrize("peer", ["192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1", "testclient"])
def test_another_machine(peer: str) -> None:
    assert not is_from_this_machine(request(peer))


@pytest.mark.parametrize(
    "host",
    [
        *("", "127.0.0.1.nip.io", "localhost.example", "example:8000", "192.0.2.1"),
        *("example@127.0.0.1", "127.0.0.1/example", "127.0.0.1#", "[::1", "127.0.0.1:x", "[::]"),
    ],
)
def test_a_name_that_leads_here(host: str) -> None:
    assert not is_from_this_machine(request(host=host))


@pytest.mark.parametrize(
    "name",
    [
        *("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"),
        *("x-original-forwarded-for", "x-real-ip", "x-client-ip", "true-client-ip"),
        "cf-connecting-ip",
    ],
)
def test_a_proxy_on_this_machine(name: str) -> None:
    assert not is_from_this_machine(request(**{name: "192.0.2.1"}))


def test_a_proxy_that_tells_nothing_of_its_client() -> None:
    assert not is_from_this_machine(request(version="1.0"))


@pytest.mark.parametrize(
    ("base_url", "has_key"),
    [("http://127.0.0.1:8000", True), ("https://wepeople.example", False)],
)
async def test_there_is_no_key_where_clients_come_from_elsewhere(
    base_url: str, has_key: bool
) -> None:
    site = Site(base_url, "127.0.0.1:50051", KEY)
    answer = await documents(site)[OVERVIEW_PATH].answer(request())
    assert (KEY in bytes(answer.body).decode()) is has_key
    assert (answer.headers["cache-control"] == "no-store") is has_key
