"""The limits of the OpenAPI document and of the reference page come from core.limits."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from core import limits
from core.error_codes import CATALOGUE
from http_api.docs.openapi import document, render
from http_api.docs.reference import render_reference
from http_api.site import Site
from tests.http_api.docs.promised_document import (
    BASE_URL,
    at,
)

# The promises, written out again on purpose: what clients were told, not what the code says.
PROMISED_LIMITS: dict[str, object] = {
    "MAX_BATCH_EVENTS": 500,
    "MAX_BODY_BYTES": 1_048_576,
    "MAX_JSON_BYTES": 16_384,
    "MAX_JSON_DEPTH": 128,
    "MAX_APP_PRODUCERS": 10_000,
    "PRODUCER_UNUSED_DAYS": 90,
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
    "schemas.IngestBatchResponse.properties.batchLimit.example": "MAX_BATCH_EVENTS",
    "schemas.BatchError.properties.batchLimit.example": "MAX_BATCH_EVENTS",
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
    "schemas.DetailedMetric.properties.label.maxLength": "MAX_LABEL_CHARACTERS",
    "schemas.MetricUnit.enum": "METRIC_UNITS",
    "schemas.EventCategory.enum": "CATEGORIES",
    "parameters.IdempotencyKey.schema.maxLength": "MAX_IDEMPOTENCY_KEY_CHARACTERS",
    "headers.X-API-Version.schema.example": "API_VERSION",
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


# Said in proto/, to those whom they concern.
OF_GRPC = {"MAX_APP_PRODUCERS", "PRODUCER_UNUSED_DAYS"}


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


@pytest.mark.parametrize("name", [name for name in PROMISED_LIMITS if name not in OF_GRPC])
@pytest.mark.parametrize(
    "made",
    [render, lambda url: render_reference(Site(url, "ingest.example:50051"))],
    ids=["document", "page"],
)
def test_prose_takes_the_limit_from_its_one_place(
    monkeypatch: pytest.MonkeyPatch, name: str, made: Callable[[str], bytes]
) -> None:
    new = CHANGED.get(name, 7_919)
    monkeypatch.setattr(limits, name, new)
    # Pages are made once for each address, so this one is of the test's own.
    text = made(f"https://{name.lower().replace('_', '-')}.example").decode().replace(",", "")
    # Of gRPC the page shows the comments of the .proto.
    text = re.sub('<section aria-labelledby="grpc">.*?</section>', "", text, flags=re.DOTALL)
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
