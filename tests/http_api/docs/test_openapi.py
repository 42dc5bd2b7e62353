"""The OpenAPI document, the reference page, the limits and the error catalogue say the same."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from typing import Any, cast
from urllib.parse import urldefrag, urljoin

import httpx
import jsonschema_rs
import pytest
import yaml
from fastapi import FastAPI
from schemathesis.specs.openapi.definitions import OPENAPI_31
from starlette.routing import Route

from core import limits
from core.error_codes import CATALOGUE, REFERENCE_PATH, ErrorCode, StreamReason, docs_url
from core.ingest import Ingestor
from http_api.docs.openapi import DOCUMENT_PATH, document, render
from http_api.docs.reference import render_reference
from http_api.errors import HTTP_STATUS, METHOD_NOT_ALLOWED, NOT_FOUND
from http_api.routes import Fail, add_ingest_routes
from tests.support.running_service import Addresses

BASE_URL = "https://ingest.example"

# The promises, written out again on purpose: what clients were told, not what the code says.
PROMISED_LIMITS: dict[str, object] = {
    "MAX_BATCH_EVENTS": 500,
    "MAX_BODY_BYTES": 1_048_576,
    "MAX_JSON_BYTES": 16_384,
    "MAX_JSON_DEPTH": 256,
    "TYPE_PATTERN": "^[A-Za-z0-9][A-Za-z0-9_.-]{1,62}[A-Za-z0-9]$",
    "MIN_TYPE_CHARACTERS": 3,
    "MAX_TYPE_CHARACTERS": 64,
    "MAX_DURATION_SECONDS": 86_400,
    "MAX_NAME_CHARACTERS": 200,
    "MIN_EMAIL_CHARACTERS": 3,
    "MAX_EMAIL_CHARACTERS": 320,
    "MAX_LABEL_CHARACTERS": 200,
    "MAX_IDEMPOTENCY_KEY_CHARACTERS": 200,
    "IDEMPOTENCY_WINDOW_SECONDS": 600,
    "DEFAULT_KEY_REQUESTS_PER_SECOND": 60,
    "DEFAULT_ORGANIZATION_REQUESTS_PER_SECOND": 600,
    "CATEGORIES": (
        "communication",
        "project_management",
        "code",
        "calendar",
        "design",
        "ai_tools",
        "other",
    ),
    "METRIC_UNITS": ("count", "minutes", "ratio", "percentage", "score"),
    "API_VERSION": "2026-04-01",
}

# Where the document says a limit to programs. Those that JSON Schema cannot say are in the prose.
LIMIT_PLACES = {
    "schemas.IngestEventBatch.properties.events.maxItems": "MAX_BATCH_EVENTS",
    "schemas.IngestBatchResponse.properties.batchLimit.const": "MAX_BATCH_EVENTS",
    "schemas.RefusedBatch.allOf.1.properties.batchLimit.const": "MAX_BATCH_EVENTS",
    "schemas.IngestEvent.properties.eventType.pattern": "TYPE_PATTERN",
    "schemas.IngestEvent.properties.eventType.minLength": "MIN_TYPE_CHARACTERS",
    "schemas.IngestEvent.properties.eventType.maxLength": "MAX_TYPE_CHARACTERS",
    "schemas.IngestEvent.properties.duration.maximum": "MAX_DURATION_SECONDS",
    "schemas.IngestSnapshot.properties.snapshotType.pattern": "TYPE_PATTERN",
    "schemas.IngestSnapshot.properties.snapshotType.minLength": "MIN_TYPE_CHARACTERS",
    "schemas.IngestSnapshot.properties.snapshotType.maxLength": "MAX_TYPE_CHARACTERS",
    "schemas.Actor.properties.externalId.maxLength": "MAX_NAME_CHARACTERS",
    "schemas.Actor.properties.displayName.maxLength": "MAX_NAME_CHARACTERS",
    "schemas.Actor.properties.email.minLength": "MIN_EMAIL_CHARACTERS",
    "schemas.Actor.properties.email.maxLength": "MAX_EMAIL_CHARACTERS",
    "schemas.Metric.oneOf.1.maxLength": "MAX_LABEL_CHARACTERS",
    "schemas.Metric.oneOf.2.properties.label.maxLength": "MAX_LABEL_CHARACTERS",
    "schemas.Metric.oneOf.2.properties.unit.enum": "METRIC_UNITS",
    "schemas.EventCategory.enum": "CATEGORIES",
    "parameters.IdempotencyKey.schema.maxLength": "MAX_IDEMPOTENCY_KEY_CHARACTERS",
    "headers.X-API-Version.schema.const": "API_VERSION",
}
LEAST = {
    "schemas.IngestEventBatch.properties.events.minItems": 1,
    "schemas.IngestEvent.properties.duration.minimum": 0,
    "schemas.Actor.properties.workerId.minLength": 1,
    "schemas.Actor.properties.externalId.minLength": 1,
    "schemas.Actor.properties.displayName.minLength": 1,
    "schemas.Metric.oneOf.1.minLength": 0,
    "parameters.IdempotencyKey.schema.minLength": 1,
}

_CREDENTIAL = {
    "401": {"missing_authorization", "invalid_key", "key_revoked", "key_expired"},
    "429": {"rate_limited"},
    "500": {"internal_error"},
}
PROMISED_ERRORS: dict[str, dict[str, set[str]]] = {
    "ping": _CREDENTIAL | {"402": {"plan_disabled"}},
    "ingestEvents": _CREDENTIAL
    | {
        "400": {"invalid_body", "missing_actor"},
        "402": {"plan_disabled", "quota_exceeded"},
        "403": {"forbidden_event_type"},
        "404": {"worker_not_found"},
        "413": {"batch_too_large"},
    },
    "ingestSnapshot": _CREDENTIAL
    | {
        "400": {"invalid_body", "missing_actor"},
        "402": {"plan_disabled", "quota_exceeded"},
        "404": {"worker_not_found"},
        "413": {"batch_too_large"},
    },
}
# What can befall one event of a batch while its neighbours are stored.
PROMISED_EVENT_CODES = {
    "invalid_body",
    "missing_actor",
    "forbidden_event_type",
    "worker_not_found",
    "quota_exceeded",
}

DOCUMENT = document(BASE_URL)
PAGE = render_reference(BASE_URL).decode()


def resolve(node: Any) -> Any:
    """What a node refers to, if it is a reference."""
    while isinstance(node, dict) and "$ref" in node:
        pointer, node = node["$ref"], DOCUMENT
        for step in pointer.removeprefix("#/").split("/"):
            node = node[step]
    return node


def at(path: str, whole: dict[str, Any] = DOCUMENT) -> Any:
    """The value at a dotted path below ``components``."""
    node: Any = whole["components"]
    for step in path.split("."):
        node = node[int(step)] if isinstance(node, list) else node[step]
    return node


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Path, method and operation."""
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def error_examples(operation: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Status, name and value of every example of an error."""
    for status, response in operation["responses"].items():
        if status >= "400":
            content = resolve(response)["content"]["application/json"]
            for name, example in content["examples"].items():
                yield status, name, example["value"]


# --- the document by itself ------------------------------------------------------------------


def test_document_is_valid_openapi_3_1() -> None:
    # The specification leaves `schema` open; its dialect is plain 2020-12 here.
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


def nodes(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every node of the document with its path."""
    yield path, node
    items: Any = ()
    if isinstance(node, dict):
        items = node.items()
    elif isinstance(node, list):
        items = enumerate(node)
    for key, child in items:
        yield from nodes(child, f"{path}/{key}")


def test_every_component_is_used_and_every_reference_resolves() -> None:
    referenced = set()
    for _, node in nodes(DOCUMENT):
        if isinstance(node, dict) and isinstance(node.get("$ref"), str):
            resolve(node)
            referenced.add(node["$ref"])
    existing = {
        f"#/components/{kind}/{name}"
        for kind, components in DOCUMENT["components"].items()
        if kind != "securitySchemes"
        for name in components
    }
    assert referenced == existing


def test_yaml_is_the_document_without_aliases() -> None:
    text = render(BASE_URL).decode()
    assert yaml.safe_load(text) == DOCUMENT
    assert not re.search(r"[ :][&*]id\d", text)


def test_operations_are_the_routes() -> None:
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    add_ingest_routes(app, cast(Ingestor, None), cast(Fail, None))
    routes = {
        (route.path, method)
        for route in app.routes
        if isinstance(route, Route)
        for method in route.methods or ()
    }
    assert {(path, method.upper()) for path, method, _ in operations()} == routes


def test_operation_ids_and_schemas_are_those_clients_are_generated_from() -> None:
    assert [operation["operationId"] for _, _, operation in operations()] == [
        "ping",
        "ingestEvents",
        "ingestSnapshot",
    ]
    assert {
        "EventCategory",
        "Actor",
        "IngestEvent",
        "IngestEventBatch",
        "IngestSnapshot",
        "IngestBatchResponse",
        "SnapshotResponse",
        "PingResponse",
        "Error",
    } <= DOCUMENT["components"]["schemas"].keys()


def test_every_operation_needs_the_bearer_token() -> None:
    assert DOCUMENT["security"] == [{"bearer": []}]
    assert DOCUMENT["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    assert not [operation for _, _, operation in operations() if "security" in operation]


def test_requests_may_have_unknown_members_but_no_nulls() -> None:
    for name in ("IngestEventBatch", "IngestEvent", "Actor", "IngestSnapshot"):
        schema = DOCUMENT["components"]["schemas"][name]
        assert not schema.keys() & {"additionalProperties", "unevaluatedProperties"}
        for member, node in schema["properties"].items():
            assert not validator(node).is_valid(None), f"{name}.{member}"


# --- examples --------------------------------------------------------------------------------


def validator(schema: object) -> jsonschema_rs.Draft202012Validator:
    """A validator of a schema of the document, formats included."""
    whole = {"components": DOCUMENT["components"], "allOf": [schema]}
    return jsonschema_rs.Draft202012Validator(whole, validate_formats=True)


def all_examples() -> Iterator[tuple[str, object, object]]:
    """Path, schema and value of every example, wherever the document has one."""
    for path, node in nodes(DOCUMENT):
        if not isinstance(node, dict):
            continue
        if "schema" in node and "examples" in node:
            for name, example in node["examples"].items():
                yield f"{path}/{name}", node["schema"], example["value"]
        elif "schema" in node and "example" in node:
            yield path, node["schema"], node["example"]
        elif isinstance(node.get("examples"), list):
            for example in node["examples"]:
                yield path, node, example


@pytest.mark.parametrize(
    ("schema", "example"), [pytest.param(*rest, id=path) for path, *rest in all_examples()]
)
def test_example_is_valid(schema: object, example: object) -> None:
    problems = [error.message for error in validator(schema).iter_errors(example)]
    assert problems == []


def test_every_body_has_an_example() -> None:
    bodies = [node["application/json"] for path, node in nodes(DOCUMENT) if path[-8:] == "/content"]
    assert len(bodies) > 10
    assert all(body["examples"] for body in bodies)


VALID = {
    "eventType": "ticket.resolved",
    "category": "other",
    "actor": {"email": "a@b"},
}
WORDS = {"most": "x" * 200, "more": "x" * 201}


@pytest.mark.parametrize(
    ("schema", "value", "valid"),
    [
        ("IngestEvent", VALID, True),
        ("IngestEvent", VALID | {"unknown": None}, True),
        ("IngestEvent", VALID | {"duration": 240.0}, True),
        ("IngestEvent", VALID | {"duration": 86_400}, True),
        ("IngestEvent", VALID | {"duration": 86_401}, False),
        ("IngestEvent", VALID | {"duration": -1}, False),
        ("IngestEvent", VALID | {"duration": "240"}, False),
        ("IngestEvent", VALID | {"duration": True}, False),
        ("IngestEvent", VALID | {"duration": 0.5}, False),
        ("IngestEvent", VALID | {"timestamp": "2026-04-19T12:05:00+02:00"}, True),
        ("IngestEvent", VALID | {"timestamp": "2026-04-19T12:05:00"}, False),
        ("IngestEvent", VALID | {"timestamp": "2026-04-19"}, False),
        ("IngestEvent", VALID | {"metadata": []}, False),
        ("IngestEvent", VALID | {"eventType": "ab"}, False),
        ("IngestEvent", VALID | {"eventType": "abc"}, True),
        ("IngestEvent", VALID | {"eventType": "a" * 64}, True),
        ("IngestEvent", VALID | {"eventType": "a" * 65}, False),
        ("IngestEvent", VALID | {"eventType": "a.b-"}, False),
        ("IngestEvent", VALID | {"category": "sales"}, False),
        ("IngestEvent", {name: VALID[name] for name in ("eventType", "category")}, False),
        ("IngestEventBatch", {"events": []}, False),
        ("IngestEventBatch", {"events": [VALID] * 500}, True),
        ("IngestEventBatch", {"events": [VALID] * 501}, False),
        ("Actor", {}, False),
        ("Actor", {"displayName": "Alex"}, False),
        ("Actor", {"workerId": "anything"}, True),
        ("Actor", {"externalId": WORDS["most"]}, True),
        ("Actor", {"externalId": WORDS["more"]}, False),
        ("Actor", {"externalId": ""}, False),
        ("Actor", {"externalId": "a\0b"}, False),
        ("Actor", {"externalId": "a", "email": "@b.c"}, False),
        ("Actor", {"externalId": "a", "email": "ab@"}, False),
        ("Actor", {"externalId": "a", "email": "abc"}, False),
        ("Actor", {"externalId": "a", "email": "a@b@c"}, True),
        ("Actor", {"externalId": "a", "email": f"a@{'b' * 318}"}, True),
        ("Actor", {"externalId": "a", "email": f"a@{'b' * 319}"}, False),
        ("Metric", 1.5, True),
        ("Metric", "", True),
        ("Metric", WORDS["most"], True),
        ("Metric", WORDS["more"], False),
        ("Metric", None, False),
        ("Metric", True, False),
        ("Metric", {"value": 1}, True),
        ("Metric", {"value": "1"}, False),
        ("Metric", {"unit": "count"}, False),
        ("Metric", {"value": 1, "unit": "euros"}, False),
        ("Metric", {"value": 1, "label": WORDS["more"]}, False),
    ],
)
def test_schema_tells_valid_from_invalid(schema: str, value: object, valid: bool) -> None:
    assert validator({"$ref": f"#/components/schemas/{schema}"}).is_valid(value) is valid


# --- limits ----------------------------------------------------------------------------------


def test_limits_are_the_promised_ones() -> None:
    known = {name: value for name, value in vars(limits).items() if name.isupper()}
    assert known == PROMISED_LIMITS


CHANGED = {
    "TYPE_PATTERN": "^[a-z]{7}$",
    "CATEGORIES": ("gardening", "cooking"),
    "METRIC_UNITS": ("furlongs", "ells"),
    "API_VERSION": "2031-12-24",
    "IDEMPOTENCY_WINDOW_SECONDS": 7_740,
}
SAID_AS = {"IDEMPOTENCY_WINDOW_SECONDS": ("10 minutes", "129 minutes")}
# Their old numbers stand for something else, too: a status, a default, words of the catalogue.
AMBIGUOUS = {
    "MAX_BATCH_EVENTS",
    "MAX_BODY_BYTES",
    "MIN_TYPE_CHARACTERS",
    "MIN_EMAIL_CHARACTERS",
    "MAX_TYPE_CHARACTERS",
    "MAX_NAME_CHARACTERS",
    "MAX_LABEL_CHARACTERS",
    "MAX_IDEMPOTENCY_KEY_CHARACTERS",
    "CATEGORIES",
    "METRIC_UNITS",
}


def json_form(value: object) -> object:
    """A limit as it stands in a document."""
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("place", LIMIT_PLACES)
def test_document_takes_the_limit_from_its_one_place(
    monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    name = LIMIT_PLACES[place]
    assert at(place) == json_form(PROMISED_LIMITS[name])
    new = CHANGED.get(name, 7_919)
    monkeypatch.setattr(limits, name, new)
    assert at(place, document(BASE_URL)) == json_form(new)


@pytest.mark.parametrize("place", LEAST)
def test_document_says_the_least(place: str) -> None:
    assert at(place) == LEAST[place]


@pytest.mark.parametrize("name", PROMISED_LIMITS)
@pytest.mark.parametrize("made", [render, render_reference], ids=["document", "page"])
def test_prose_takes_the_limit_from_its_one_place(
    monkeypatch: pytest.MonkeyPatch, name: str, made: Callable[[str], bytes]
) -> None:
    new = CHANGED.get(name, 7_919)
    monkeypatch.setattr(limits, name, new)
    # Pages are made once for each address, so this one is of the test's own.
    text = made(f"https://{name.lower().replace('_', '-')}.example").decode().replace(",", "")
    text = re.sub("<style>.*</style>", "", text, flags=re.DOTALL)
    gone, said = SAID_AS.get(name, (str(PROMISED_LIMITS[name]).replace(",", ""), new))
    for word in said if isinstance(said, tuple) else [str(said).replace(",", "")]:
        assert word in text
    if name not in AMBIGUOUS:
        assert not re.search(rf"(?<!\d){re.escape(gone)}(?!\d)", text)


def test_wording_of_the_catalogue_holds_no_other_numbers() -> None:
    allowed = {32, limits.MAX_BODY_BYTES, limits.MAX_BATCH_EVENTS}  # 32 hex digits of a key
    for entry in CATALOGUE.values():
        for number in re.findall(r"\d[\d,]*", f"{entry.meaning} {entry.remedy}"):
            assert int(number.replace(",", "")) in allowed


# --- error codes -----------------------------------------------------------------------------


def test_catalogue_statuses_and_document_name_the_same_codes() -> None:
    codes = set(ErrorCode)
    assert set(CATALOGUE) == codes
    assert set(HTTP_STATUS) == codes
    assert at("schemas.ErrorCode.enum") == [code.value for code in ErrorCode]
    promised = {
        code for errors in PROMISED_ERRORS.values() for set_ in errors.values() for code in set_
    }
    assert promised == {code.value for code in codes}


@pytest.mark.parametrize("operation_id", PROMISED_ERRORS)
def test_operation_has_every_error_with_its_status_and_an_example(operation_id: str) -> None:
    operation = next(one for _, _, one in operations() if one["operationId"] == operation_id)
    found: dict[str, set[str]] = {}
    for status, name, value in error_examples(operation):
        code = value["error"]["code"]
        found.setdefault(status, set()).add(code)
        assert name.startswith(code)
        assert int(status) == HTTP_STATUS[ErrorCode(code)]
        assert value["error"]["docsUrl"] == docs_url(BASE_URL, code)
    assert found == PROMISED_ERRORS[operation_id]


@pytest.mark.parametrize("operation_id", PROMISED_ERRORS)
def test_page_lists_every_error_of_an_operation(operation_id: str) -> None:
    article = PAGE.partition(f'<h3 id="{operation_id}">')[2].partition("</article>")[0]
    listed = re.findall(r'<li><a href="#(\w+)">', article)
    assert set(listed) == set().union(*PROMISED_ERRORS[operation_id].values())
    assert len(listed) == len(set(listed))


def test_description_of_a_response_names_its_codes() -> None:
    for _, _, operation in operations():
        for status, _, value in error_examples(operation):
            description = resolve(operation["responses"][status])["description"]
            code = value["error"]["code"]
            assert f"`{code}`: {CATALOGUE[ErrorCode(code)].meaning}" in description


def test_codes_of_single_events_are_the_ones_promised() -> None:
    assert set(at("schemas.RejectedEvent.properties.code.enum")) == PROMISED_EVENT_CODES
    # If such a code answers a batch, what became of each event stands beside it.
    batch = DOCUMENT["paths"]["/api/v1/ingest/events"]["post"]
    refused = {
        value["error"]["code"] for _, _, value in error_examples(batch) if "results" in value
    }
    assert refused == PROMISED_EVENT_CODES


# --- headers ---------------------------------------------------------------------------------


def test_every_response_has_the_headers_of_its_status() -> None:
    for _, method, operation in operations():
        for status, reference in operation["responses"].items():
            headers = set(resolve(reference)["headers"])
            expected = {"X-Request-Id", "X-API-Version"}
            if status == "401":
                expected |= {"WWW-Authenticate"}
            else:
                expected |= {"X-RateLimit-Limit", "X-RateLimit-Remaining"}
            if status in ("429", "500"):
                expected |= {"Retry-After"}
            if status < "300" and method == "post":
                expected |= {"Idempotency-Replayed"}
            assert headers == expected, f"{operation['operationId']} {status}"


def test_posts_take_an_idempotency_key() -> None:
    for _, method, operation in operations():
        names = [resolve(parameter)["name"] for parameter in operation.get("parameters", ())]
        assert names == (["Idempotency-Key"] if method == "post" else [])


# --- the reference page ----------------------------------------------------------------------


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
    assert [page.ids[code] for code in codes] == [1] * 18
    # An anchor with the form of a code that is none would be a code that was dropped.
    assert {name for name in page.ids if "_" in name} == set(codes)
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
        assert f"curl {BASE_URL}{path}" in PAGE


def test_links_of_the_page_resolve(page: Page) -> None:
    here = f"{BASE_URL}{REFERENCE_PATH}"
    for link in page.links:
        target, fragment = urldefrag(urljoin(here, link))
        if target == here:
            assert page.ids[fragment] == 1, link
        else:
            assert target == f"{BASE_URL}{DOCUMENT_PATH}"
    assert DOCUMENT_PATH in page.links


def test_links_of_errors_lead_to_their_section(page: Page) -> None:
    for code in (*ErrorCode, *StreamReason):
        target, fragment = urldefrag(docs_url(BASE_URL, code))
        assert target == f"{BASE_URL}{REFERENCE_PATH}"
        assert page.ids[fragment] == 1


def test_page_loads_nothing_and_runs_nothing(page: Page) -> None:
    assert [load for load in page.loads if load != "data:,"] == []
    assert "<script" not in PAGE
    assert "@import" not in PAGE
    assert "url(" not in PAGE


def test_headings_descend_one_level_at_a_time(page: Page) -> None:
    assert page.headings[0] == 1
    assert page.headings.count(1) == 1
    for before, after in zip(page.headings, page.headings[1:], strict=False):
        assert after <= before + 1


def test_page_escapes_what_it_is_given() -> None:
    hostile = 'https://x/"><script>alert(1)</script>&'
    assert "<script" not in render_reference(hostile).decode()


# --- as served -------------------------------------------------------------------------------


def test_service_serves_both(server: Addresses) -> None:
    with httpx.Client(base_url=server.http) as client:
        served = client.get(DOCUMENT_PATH)
        assert served.status_code == 200
        assert served.headers["content-type"].startswith("application/yaml")
        url = yaml.safe_load(served.content)["servers"][0]["url"]
        assert served.content == render(url)
        shown = client.get(REFERENCE_PATH)
        assert shown.status_code == 200
        assert shown.headers["content-type"] == "text/html; charset=utf-8"
        assert shown.content == render_reference(url)
