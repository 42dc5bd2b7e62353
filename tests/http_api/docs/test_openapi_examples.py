"""The schemas of the OpenAPI document, its examples, and values that are no examples."""

from __future__ import annotations

from collections.abc import Iterator

import jsonschema_rs
import pytest

from tests.http_api.docs.promised_document import (
    DOCUMENT,
    nodes,
)


def test_requests_may_have_unknown_members_but_no_nulls() -> None:
    for name in ("IngestEventBatch", "IngestEvent", "Actor", "IngestSnapshot"):
        schema = DOCUMENT["components"]["schemas"][name]
        assert "additionalProperties" not in schema
        for member, node in schema["properties"].items():
            assert not validator(node).is_valid(None), f"{name}.{member}"


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
        elif "example" in node:
            yield path, node, node["example"]


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
