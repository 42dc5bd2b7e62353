"""Pages and documents: conditional requests, compression, and both spellings of a path."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import Request

from http_api.documents import CACHE_SECONDS, Document, accepts_gzip, prefers_html
from tests.support.http_driver import HttpDriver
from tests.support.raw_http import ask, head
from tests.support.running_service import Addresses

pytestmark = pytest.mark.anyio

PATHS = ("/openapi/v1.yaml", "/openapi.json", "/developers/reference", "/developers")


@pytest.mark.parametrize("path", PATHS)
async def test_a_document_is_asked_for_again_only_if_it_has_changed(
    http: HttpDriver, path: str
) -> None:
    first = await http.client.get(path)
    assert first.headers["cache-control"] == f"public, max-age={CACHE_SECONDS}"
    assert first.headers["vary"] == "Accept-Encoding"
    etag = first.headers["etag"]
    for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = await http.client.get(path, headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
        for name in ("etag", "cache-control", "vary", "access-control-allow-origin"):
            assert again.headers[name] == first.headers[name]
    plain = {"Accept-Encoding": "identity"}
    in_another_encoding = await http.client.get(path, headers={"If-None-Match": etag} | plain)
    assert in_another_encoding.status_code == 200
    changed = await http.client.get(path, headers={"If-None-Match": '"other"'})
    assert (changed.status_code, changed.content) == (200, first.content)


@pytest.mark.parametrize("path", PATHS)
async def test_a_document_is_compressed_for_those_who_accept_it(
    server: Addresses, path: str
) -> None:
    plain = await ask(server.http, head(None, "GET", path))
    zipped = await ask(server.http, head(None, "GET", path, Accept_Encoding="br, gzip"))
    assert "content-encoding" not in plain.headers
    assert zipped.headers["content-encoding"] == "gzip"
    assert gzip.decompress(zipped.body) == plain.body
    assert len(zipped.body) < len(plain.body) / 3
    assert zipped.headers["etag"] != plain.headers["etag"]
    for sent, accepted in ((plain, "identity"), (zipped, "gzip")):
        known = {"If_None_Match": sent.headers["etag"], "Accept_Encoding": accepted}
        answer = await ask(server.http, head(None, "GET", path, **known))
        assert (answer.status, answer.body) == (304, b"")


@pytest.mark.parametrize("path", PATHS)
async def test_a_slash_at_the_end_makes_no_difference(server: Addresses, path: str) -> None:
    async with httpx.AsyncClient(base_url=server.http) as client:
        assert (await client.get(f"{path}/")).content == (await client.get(path)).content
        assert (await client.get(f"{path}//")).status_code == 404


@pytest.mark.parametrize(
    ("value", "accepted"),
    [
        ("", False),
        ("identity", False),
        ("gzip", True),
        ("deflate, GZIP;q=0.5", True),
        ("x-gzip", True),
        ("*", True),
        ("gzip;q=0, *", False),
        ("gzip; q=0.000", False),
        ("gzip;q=0.001", True),
        ("*;q=0", False),
        ("br;q=1.0, deflate", False),
    ],
)
def test_accepted_encodings_are_read(value: str, accepted: bool) -> None:
    assert accepts_gzip(value) is accepted


@pytest.mark.parametrize(
    ("accept", "preferred"),
    [
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("text/html", True),
        ("text/html, application/json", False),
        ("text/html;q=0.9, application/json;q=0.8, */*;q=0.1", True),
        ("application/json, TEXT/HTML;q=0.5", False),
        ("text/html;q=0", False),
        ("text/html;q=much", False),
        ("text/html;level=1;q=0.4", True),
    ],
)
def test_browsers_are_told_from_programs(accept: str, preferred: bool) -> None:
    assert prefers_html(accept) is preferred


async def test_of_many_who_ask_first_one_takes_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[object] = []

    async def to_thread(function: Callable[..., Any], *arguments: object) -> Any:
        threads.append(function)
        await asyncio.sleep(0)
        return function(*arguments)

    monkeypatch.setattr(asyncio, "to_thread", to_thread)
    document = Document(lambda: b"text", "text/plain")
    request = Request({"type": "http", "headers": []})
    await asyncio.gather(*(document.answer(request) for _ in range(20)))
    assert len(threads) == 1


async def test_a_document_is_rendered_once_and_not_before_it_is_asked_for() -> None:
    rendered = []

    def render() -> bytes:
        rendered.append(1)
        return b"text" * 100

    document = Document(render, "text/plain")
    assert not rendered
    for encoding in (b"gzip", b"identity", b"gzip"):
        request = Request({"type": "http", "headers": [(b"accept-encoding", encoding)]})
        assert (await document.answer(request)).status_code == 200
    assert rendered == [1]
