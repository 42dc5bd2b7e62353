"""The reference page: complete, linked, accessible and self-contained."""

from __future__ import annotations

import json
import re
from collections import Counter
from html.parser import HTMLParser
from urllib.parse import urldefrag, urljoin

import httpx
import pytest
import yaml

from core.error_codes import (
    CATALOGUE,
    REFERENCE_PATH,
    ErrorCode,
    OperatorCode,
    StreamReason,
    docs_url,
)
from grpc_api.errors import GRPC_STATUS
from http_api.docs.grpc_contract import contract
from http_api.docs.openapi import render, render_json
from http_api.docs.reference import render_reference
from http_api.errors import HTTP_STATUS, METHOD_NOT_ALLOWED, NOT_FOUND
from http_api.paths import (
    ASSETS_PATH,
    DOCUMENT_PATH,
    JSON_DOCUMENT_PATH,
    MANAGE_PATH,
    OVERVIEW_PATH,
)
from http_api.site import Site
from tests.http_api.docs.page_examples import page_examples
from tests.http_api.docs.promised_document import (
    BASE_URL,
    DOCUMENT,
    PROMISED_ERRORS,
    SITE,
    operations,
)
from tests.support.running_service import Addresses

PAGE = render_reference(SITE).decode()


@pytest.mark.parametrize("operation_id", PROMISED_ERRORS)
def test_page_lists_every_error_of_an_operation(operation_id: str) -> None:
    article = PAGE.partition(f'<h3 id="{operation_id}" ')[2].partition("</article>")[0]
    listed = re.findall(r'<li><a href="#(\w+)">', article)
    assert set(listed) == set().union(*PROMISED_ERRORS[operation_id].values())
    assert len(listed) == len(set(listed))


class Page(HTMLParser):
    """What a page is made of: anchors, links, headings, and whether its tags match."""

    VOID = frozenset({"meta", "link", "br", "hr", "img", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: Counter[str] = Counter()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.headings: list[int] = []
        self.sections: dict[str, str] = {}
        self._open: list[tuple[str, str | None]] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        name = given.get("id")
        if name is not None:
            self.ids[name] += 1
            self.sections.setdefault(name, "")
        if tag == "a":
            self.links.append(given["href"] or "")
        self.loads += [value or "" for key, value in attrs if key in ("src", "srcset", "data")]
        if tag in ("link", "script", "iframe", "object"):
            self.loads.append(given.get("href") or given.get("src") or tag)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in self.VOID:
            self._open.append((tag, name))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        for _, name in self._open:
            if name is not None:
                self.sections[name] += data


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(PAGE)


def test_page_has_one_anchor_for_each_code(page: Page) -> None:
    codes = [code.value for code in ErrorCode] + [NOT_FOUND, METHOD_NOT_ALLOWED]
    codes += [reason.value for reason in StreamReason]
    assert [page.ids[code] for code in codes] == [1] * 19
    codes += [code.value for code in OperatorCode]
    assert all(page.ids[code] == 1 for code in codes)
    # An anchor with the form of a code that is none would be a code that was dropped.
    assert {name for name in page.ids if "_" in name} == {code for code in codes if "_" in code}
    assert max(page.ids.values()) == 1


@pytest.mark.parametrize("code", ErrorCode)
def test_page_explains_the_code(page: Page, code: ErrorCode) -> None:
    text, entry = page.sections[code.value], CATALOGUE[code]
    assert str(int(HTTP_STATUS[code])) in text
    for words in (entry.meaning, entry.remedy, entry.retry.value[1:]):
        assert words.replace("`", "") in text


@pytest.mark.parametrize(("code", "status"), [(NOT_FOUND, "404"), (METHOD_NOT_ALLOWED, "405")])
def test_page_explains_the_codes_beside_the_endpoints(page: Page, code: str, status: str) -> None:
    assert status in page.sections[code]


def test_page_describes_every_field_header_and_path(page: Page) -> None:
    text = "".join(page.sections.values())
    for name, schema in DOCUMENT["components"]["schemas"].items():
        if name in ("IngestEventBatch", "IngestEvent", "Actor", "IngestSnapshot"):
            for member in schema["properties"]:
                assert re.search(rf"\b{member}\b", text), member
    for header in DOCUMENT["components"]["headers"]:
        assert header.removesuffix("-If-Known") in text
    for path, _, operation in operations():
        assert path in page.sections[operation["operationId"]]


def test_page_has_an_example_of_every_operation_in_every_language() -> None:
    examples = page_examples(PAGE)
    for path, _, operation in operations():
        shown = {one.label: one.code for one in examples if one.section == operation["operationId"]}
        assert list(shown) == ["curl", "Python", "TypeScript", "Go", "grpcurl"]
        rpc = shown.pop("grpcurl")
        assert f"{SITE.grpc_target} {contract().service}/" in rpc
        assert all(f"{BASE_URL}{path}" in code for code in shown.values())


def test_grpcurl_is_told_of_a_service_without_tls_only() -> None:
    with_tls = render_reference(SITE._replace(has_grpc_tls=True)).decode()
    for page, command in ((PAGE, "grpcurl -plaintext"), (with_tls, "grpcurl")):
        codes = [one.code for one in page_examples(page) if one.label == "grpcurl"]
        assert codes
        assert all(code.startswith(f"{command} -emit-defaults") for code in codes)


def test_page_has_an_anchor_for_every_field_header_limit_and_method(page: Page) -> None:
    schemas = DOCUMENT["components"]["schemas"]
    anchors = {
        *(f"ingestEvents-events-{name}" for name in schemas["IngestEvent"]["properties"]),
        *(f"ingestSnapshot-{name}" for name in schemas["IngestSnapshot"]["properties"]),
        *(f"actor-{name}" for name in schemas["Actor"]["properties"]),
        *(f"metric-{name}" for name in schemas["DetailedMetric"]["properties"]),
        *(f"header-{name.lower()}" for name in DOCUMENT["components"]["headers"]),
        *(f"grpc-{method.name}" for method in contract().methods),
        *(
            f"message-{message.name}-{field.name.replace('_', '-')}"
            for message in contract().messages
            for field in message.fields
        ),
        *(f"limit-{name}" for name in ("batch-events", "body", "json", "idempotency-key")),
    }
    assert anchors - {"header-retry-after-if-known"} <= page.ids.keys()


@pytest.mark.parametrize("code", ErrorCode)
def test_page_tells_the_grpc_status_of_a_code_and_shows_an_answer(
    page: Page, code: ErrorCode
) -> None:
    text = page.sections[code.value]
    assert GRPC_STATUS[code].name in text
    shown = json.loads(text[text.index("{") : text.rindex("}") + 1])
    assert shown["error"]["code"] == code.value
    assert shown["error"]["docsUrl"] == docs_url(BASE_URL, code)


def test_links_of_the_page_resolve(page: Page) -> None:
    here = f"{BASE_URL}{REFERENCE_PATH}"
    for link in page.links:
        target, fragment = urldefrag(urljoin(here, link))
        if target == here:
            assert not fragment or page.ids[fragment] == 1, link
        else:
            path = target.removeprefix(BASE_URL)
            documents = (DOCUMENT_PATH, JSON_DOCUMENT_PATH, f"{MANAGE_PATH}/openapi.json")
            assert path in documents or path.startswith(OVERVIEW_PATH)
    assert DOCUMENT_PATH in page.links


def test_links_of_errors_lead_to_their_section(page: Page) -> None:
    for code in (*ErrorCode, *StreamReason):
        target, fragment = urldefrag(docs_url(BASE_URL, code))
        assert target == f"{BASE_URL}{REFERENCE_PATH}"
        assert page.ids[fragment] == 1


def test_page_loads_only_assets_of_the_portal(page: Page) -> None:
    assert page.loads
    assert [load for load in page.loads if not load.startswith(f"{ASSETS_PATH}/")] == []


def test_headings_descend_one_level_at_a_time(page: Page) -> None:
    assert page.headings[0] == 1
    assert page.headings.count(1) == 1
    for before, after in zip(page.headings, page.headings[1:], strict=False):
        assert after <= before + 1


def test_page_escapes_what_it_is_given() -> None:
    hostile = 'https://x/"><script>alert(1)</script>&'
    assert "alert(1)</script" not in render_reference(SITE._replace(base_url=hostile)).decode()


def test_service_serves_them_all(server: Addresses) -> None:
    with httpx.Client(base_url=server.http) as client:
        served = client.get(DOCUMENT_PATH)
        assert served.status_code == 200
        assert served.headers["content-type"].startswith("application/yaml")
        url = yaml.safe_load(served.content)["servers"][0]["url"]
        assert served.content == render(url)
        served = client.get(JSON_DOCUMENT_PATH)
        assert served.headers["content-type"] == "application/json"
        assert served.content == render_json(url)
        shown = client.get(REFERENCE_PATH)
        assert shown.status_code == 200
        assert shown.headers["content-type"] == "text/html; charset=utf-8"
        assert shown.content == render_reference(Site(url, server.grpc))
