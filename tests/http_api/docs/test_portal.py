"""The portal as it is served: its links, its search index, and who sees the demo's key."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from urllib.parse import urldefrag, urljoin

import httpx
import pytest

from core.error_codes import ErrorCode, StreamReason, docs_url
from http_api.docs.frame import PAGES
from http_api.paths import ASSETS_PATH, OVERVIEW_PATH
from tests.http_api.docs.test_reference import Page
from tests.support.raw_http import Answer, ask, head
from tests.support.running_service import Addresses, RunningService
from tests.support.tenant import UNKNOWN_KEY

PATHS = [page.path for page in PAGES]


@pytest.fixture(scope="module")
def client(server: Addresses) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.http) as client:
        yield client


@pytest.fixture(scope="module")
def pages(client: httpx.Client) -> dict[str, Page]:
    return {path: Page(client.get(path).text) for path in PATHS}


@pytest.mark.parametrize("path", PATHS)
def test_every_link_and_anchor_of_a_page_exists(
    client: httpx.Client, pages: dict[str, Page], server: Addresses, path: str
) -> None:
    for link in [*pages[path].links, *pages[path].loads]:
        target, fragment = urldefrag(urljoin(f"{server.http}{path}", link))
        if not target.startswith(server.http):
            assert link in pages[path].links, "a page loads nothing of another origin"
            continue
        found = target.removeprefix(server.http)
        assert client.head(found).status_code == 200, link
        if fragment:
            assert pages[found].ids[fragment] == 1, link


@pytest.mark.parametrize("path", PATHS)
def test_a_page_says_what_it_is(client: httpx.Client, path: str) -> None:
    text = client.get(path).text
    assert len(re.findall("<title>.+</title>", text)) == 1
    assert len(re.findall('<meta name="description" content=".{40,160}">', text)) == 1
    assert '<html lang="en">' in text
    assert text.count("<main") == 1
    assert f'<a href="{path}" aria-current="page">' in text


def test_titles_and_descriptions_tell_pages_apart() -> None:
    assert len({page.title for page in PAGES}) == len({page.description for page in PAGES}) == 4


@pytest.mark.parametrize("path", PATHS)
def test_headings_of_a_page_descend_one_level_at_a_time(pages: dict[str, Page], path: str) -> None:
    headings = pages[path].headings
    assert headings.count(1) == 1
    for before, after in pairwise(headings):
        assert after <= before + 1


def test_the_search_index_leads_to_sections_that_exist(
    client: httpx.Client, pages: dict[str, Page]
) -> None:
    entries = client.get(f"{ASSETS_PATH}/search.json").json()
    for entry in entries:
        path, fragment = urldefrag(entry["url"])
        assert not fragment or pages[path].ids[fragment] == 1
        assert entry["title"]
    found = {entry["url"] for entry in entries}
    assert {docs_url("", code) for code in (*ErrorCode, *StreamReason)} <= found


def test_assets_are_of_their_media_type(client: httpx.Client) -> None:
    for name, media_type in (
        ("portal.css", "text/css"),
        ("portal.js", "text/javascript"),
        ("favicon.svg", "image/svg+xml"),
        ("swagger-ui-bundle.js", "text/javascript"),
    ):
        answer = client.get(f"{ASSETS_PATH}/{name}")
        assert answer.status_code == 200
        assert answer.headers["content-type"].partition(";")[0] == media_type
        assert answer.headers["x-content-type-options"] == "nosniff"


# --- the demo's key ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo(server: Addresses) -> Iterator[str]:
    """The URL of a service that has a key to show."""
    with RunningService(server.database_url, shown_key=UNKNOWN_KEY) as service:
        yield service.addresses.http


async def overview(url: str, path: str = OVERVIEW_PATH, **headers: str | None) -> Answer:
    return await ask(url, head(None, "GET", path, Origin="https://other.example", **headers))


@pytest.mark.anyio
@pytest.mark.parametrize("host", ["127.0.0.1:80", "localhost", "[::1]:8080", "127.1.2.3"])
@pytest.mark.parametrize("path", [OVERVIEW_PATH, f"{OVERVIEW_PATH}/"])
async def test_a_reader_at_the_machine_sees_the_demos_key_and_nobody_keeps_it(
    demo: str, host: str, path: str
) -> None:
    answer = await overview(demo, path, Host=host)
    assert answer.status == 200
    assert f"export WEPEOPLE_API_KEY={UNKNOWN_KEY}" in re.sub("<[^>]*>", "", answer.body.decode())
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert not [name for name in answer.headers if name.startswith("access-control")]
    known = await overview(demo, path, Host=host, If_None_Match=answer.headers["etag"])
    assert (known.status, known.headers["cache-control"]) == (304, "no-store")


@pytest.mark.anyio
@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "ingest.example"},  # a name of somebody's that leads here
        {"Host": "127.0.0.1.nip.example"},
        {"Host": "[::1"},
        {"Host": "localhost", "X_Forwarded_For": "192.0.2.7"},  # a proxy on this machine
        {"Host": "localhost", "Forwarded": "for=192.0.2.7"},
        {"Host": "localhost", "Via": "1.1 proxy"},
    ],
)
async def test_nobody_else_sees_the_demos_key(demo: str, headers: dict[str, str]) -> None:
    answer = await overview(demo, **headers)
    assert UNKNOWN_KEY not in answer.body.decode()
    assert "wp_live_…" in answer.body.decode()
    assert answer.headers["cache-control"] == "no-store"
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.anyio
async def test_no_other_page_has_the_demos_key(demo: str) -> None:
    for path in (*PATHS[1:], f"{ASSETS_PATH}/search.json", "/nothing"):
        answer = await overview(demo, path, Host="localhost", Accept="text/html")
        assert UNKNOWN_KEY not in answer.body.decode()


@pytest.mark.anyio
async def test_without_a_demo_the_overview_is_for_everybody(server: Addresses) -> None:
    answer = await overview(server.http, Host="localhost")
    assert "wp_live_…" in answer.body.decode()
    assert answer.headers["cache-control"].startswith("public")
    assert answer.headers["access-control-allow-origin"] == "*"
