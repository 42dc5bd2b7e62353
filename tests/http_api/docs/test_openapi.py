"""The OpenAPI document: its form, and the errors and headers it promises."""

from __future__ import annotations

import json
import re
from typing import Any, cast

import jsonschema_rs
import pytest
import yaml
from fastapi import FastAPI
from schemathesis.specs.openapi.definitions import OPENAPI_30, OPENAPI_31
from starlette.routing import Route

from core.error_codes import CATALOGUE, ErrorCode, docs_url
from core.ingest import Ingestor
from http_api.docs.openapi import EVENT_CODES, render, render_json
from http_api.errors import HTTP_STATUS
from http_api.routes import Fail, add_ingest_routes
from tests.http_api.docs.promised_document import (
    BASE_URL,
    DOCUMENT,
    PROMISED_ERRORS,
    PROMISED_EVENT_CODES,
    at,
    error_examples,
    nodes,
    operations,
    resolve,
)


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


def test_document_has_nothing_that_openapi_3_0_had_not() -> None:
    older = DOCUMENT | {"openapi": "3.0.3"}
    problems = [
        f"{error.instance_path}: {error.message}"
        for error in jsonschema_rs.Draft4Validator(OPENAPI_30).iter_errors(older)
    ]
    assert problems == []


SCHEMAS = [
    (path, node)
    for path, node in nodes(DOCUMENT)
    if isinstance(node, dict) and isinstance(node.get("type"), str) and "in" not in node
    if not path.startswith("/components/securitySchemes")
]


@pytest.mark.parametrize(("path", "schema"), [pytest.param(*one, id=one[0]) for one in SCHEMAS])
def test_schema_is_one_that_generators_make_working_code_of(
    path: str, schema: dict[str, Any]
) -> None:
    # A number without its format is a 32-bit float in Go and Java.
    formats = {"number": {"double"}, "integer": {"int32", "int64"}}
    if schema["type"] in formats:
        assert schema.get("format") in formats[schema["type"]]
    # Without a word on other members an object without members is one that can have none.
    if schema["type"] == "object":
        assert schema.get("properties") or "additionalProperties" in schema
    # A pattern is a check of text, and a client has no text of a date.
    assert not ("format" in schema and "pattern" in schema)
    # Code for alternatives of which members are required, and for constants, does not compile.
    assert not schema.keys() & {"allOf", "anyOf", "oneOf", "const"}


def test_json_is_the_same_document() -> None:
    assert json.loads(render_json(BASE_URL)) == DOCUMENT


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
        for method in (route.methods or set()) - {"HEAD"}  # answered wherever GET is
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
    assert DOCUMENT["security"] == [{"bearerAuth": []}]
    assert DOCUMENT["components"]["securitySchemes"]["bearerAuth"]["scheme"] == "bearer"
    assert not [operation for _, _, operation in operations() if "security" in operation]


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


def test_description_of_a_response_names_its_codes() -> None:
    for _, _, operation in operations():
        for status, _, value in error_examples(operation):
            description = resolve(operation["responses"][status])["description"]
            code = value["error"]["code"]
            assert f"`{code}`: {CATALOGUE[ErrorCode(code)].meaning}" in description


def test_codes_of_single_events_are_the_ones_promised() -> None:
    assert {code.value for code in EVENT_CODES} == PROMISED_EVENT_CODES
    for code in PROMISED_EVENT_CODES:
        assert f"`{code}`" in at("schemas.RejectedEvent.description")
    # If such a code answers a batch, what became of each event stands beside it.
    batch = DOCUMENT["paths"]["/api/v1/ingest/events"]["post"]
    refused = {
        value["error"]["code"] for _, _, value in error_examples(batch) if "results" in value
    }
    assert refused == PROMISED_EVENT_CODES


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
