"""The OpenAPI document under test, ways through it, and what clients were promised of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from http_api.docs.openapi import document
from http_api.site import Site

BASE_URL = "https://ingest.example"
SITE = Site(BASE_URL, "ingest.example:50051")


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
