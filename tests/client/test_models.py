"""Values as JSON, and JSON that is not what it should be."""

from __future__ import annotations

import json
from collections import UserDict
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from types import MappingProxyType
from typing import Any, get_args

import msgspec
import pytest

from core import limits
from tests.support.tenant import event
from wepeople_ingest_client import Actor, ApiError, Event, EventCategory, MetricUnit, Snapshot
from wepeople_ingest_client.encoding import encode
from wepeople_ingest_client.rest.answers import decode_batch, retry_after_seconds
from wepeople_ingest_client.rest.steps import Answer


def typed(**metadata: Any) -> Event:
    return Event(
        event_type="ticket.resolved",
        category="code",
        actor=Actor(email="a@b"),
        metadata=metadata,
    )


def test_words_are_the_services() -> None:
    assert get_args(EventCategory) == limits.CATEGORIES
    assert get_args(MetricUnit) == limits.METRIC_UNITS


def test_absent_members_are_left_out() -> None:
    assert json.loads(encode(typed(none=None))) == {
        "eventType": "ticket.resolved",
        "category": "code",
        "actor": {"email": "a@b"},
        "metadata": {"none": None},
    }


@pytest.mark.parametrize("kind", [dict, UserDict, MappingProxyType])
def test_mappings(kind: type) -> None:
    mapping: Mapping[str, Any] = kind(event())
    assert json.loads(encode(mapping)) == event()


def test_numbers_keep_their_digits() -> None:
    text = encode(typed(exact=Decimal("1.500"), large=2**80, exponent=Decimal("1E+5")))
    assert b'{"exact":1.500,"large":1208925819614629174706176,"exponent":1E+5}' in text


@dataclass
class Reading:
    value: float


class Level(Enum):
    NONE = float("inf")


def test_text_that_is_json_already() -> None:
    assert b'"metadata":{"value":{"a":1.50}}' in encode(typed(value=msgspec.Raw(b'{"a":1.50}')))


LOOP: list[object] = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("-inf"),
        Decimal("NaN"),
        Decimal("Infinity"),
        [{"deep": (float("nan"),)}],
        {float("nan")},
        Reading(float("nan")),
        Level.NONE,
        "\ud800",
        pytest.param(object(), id="object"),  # its repr differs between processes
        LOOP,
    ],
    ids=lambda value: "object" if type(value) is object else repr(value),
)
def test_no_json(value: object) -> None:
    with pytest.raises(ValueError, match="cannot be written as JSON"):
        encode(typed(value=value))
    with pytest.raises(ValueError, match="cannot be written as JSON"):
        encode(event(metadata={"value": value}))
    with pytest.raises(ValueError, match="cannot be written as JSON"):
        encode(Snapshot(snapshot_type="t", actor=Actor(), metrics={"v": value}))  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7),
        ("", None),
        ("-1", None),
        ("soon", None),
        ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", None),
        ("Wed, 21 Oct 2015 07:28:00 +9999999999999999", None),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
    ],
)
def test_retry_after(text: str, seconds: float | None) -> None:
    assert retry_after_seconds(Answer(503, {"retry-after": text}, b"")) == seconds


def test_retry_after_as_a_date() -> None:
    told = retry_after_seconds(Answer(503, {"retry-after": "Fri, 31 Dec 2100 23:59:59 GMT"}, b""))
    assert told is not None
    assert told > 3_600


STORED = {"eventType": "t", "timestamp": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    "results",
    [
        {"accepted": [], "rejected": []},
        {"accepted": [], "rejected": [{"index": 2, "code": "invalid_body", "message": "m"}] * 2},
        {"accepted": [], "rejected": [{"index": 0, "code": "invalid_body", "message": "m"}] * 2},
        {"accepted": [STORED], "rejected": [{"index": 0, "code": "c", "message": "m"}] * 2},
        {"accepted": [STORED] * 2, "rejected": [{"index": -1, "code": "c", "message": "m"}]},
        {"accepted": [STORED] * 3, "rejected": []},
    ],
)
def test_answer_that_is_not_about_the_events(results: dict[str, object]) -> None:
    body = json.dumps({"requestId": "req_1", "results": results}).encode()
    with pytest.raises(ApiError, match="not an answer of the ingest API"):
        decode_batch(Answer(207, {}, body), range(2))
