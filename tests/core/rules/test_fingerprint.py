"""Properties of digests: equal if and only if the same is said, however it is spelled."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import timestamps
from core.journal.pending_events import PendingEvents
from core.models import Actor, Event, EventBatch, EventColumns, Events, Malformed
from core.rules import fingerprint
from core.rules.event_batch import MIN_COLUMN_EVENTS, by_columns, check_metadata
from core.slices import SLICE_BYTES, at_once
from http_api.decoding import decode_events
from tests.support import strategies
from tests.support.strategies import CALLER, EXAMPLES

RECEIVED_US = 1_776_600_300_123_456


@EXAMPLES
@given(st.lists(strategies.any_events, min_size=1, max_size=3))
def test_whatever_is_sent_with_an_idempotency_key_has_a_digest(
    events: list[Event | Malformed],
) -> None:
    batch = EventBatch("req_", events, "the key")
    pending, again = (PendingEvents.check(CALLER, batch, RECEIVED_US) for _ in range(2))
    assert pending.claim is not None
    assert pending.claim == again.claim


def test_what_no_text_can_be_has_one_digest_as_well() -> None:
    # An event type with half of a pair of surrogates is refused, its batch is still recognized.
    one, other = (
        fingerprint.events_digest(
            [
                Event("\ud800", "code", None, metadata=text),
                Event("deal.won", "code", metadata=text),
            ],
            [text, text],
        )
        for text in (b'{"a":-0.5,"b":1e400}', b'{"b":1e400,"a":-0.50}')
    )
    assert one == other


def test_a_batch_has_one_digest_by_whole_and_in_slices() -> None:
    large = Event("deal.won", "code", metadata=json.dumps({"text": "x" * SLICE_BYTES}).encode())
    _digest_of([large, Event("\ud800", "code"), large])


def _respelled(value: object) -> str:
    """The same JSON value, spelled differently wherever JSON leaves a choice."""
    match value:
        case dict():
            members = [f" {_respelled(key)} :\t{_respelled(value[key])}" for key in reversed(value)]
            return "{" + ",\n".join(members) + " }"
        case list():
            return "[ " + " , ".join(map(_respelled, value)) + " ]"
        case str():
            encoded = value.encode("utf-16-be").hex()
            units = [encoded[at : at + 4] for at in range(0, len(encoded), 4)]
            return '"' + "".join(f"\\u{unit}" for unit in units) + '"'
        case bool() | None:
            return json.dumps(value)
        case int():
            return f"{value}.0e+0"
        case float():
            mantissa, _, exponent = repr(value).partition("e")
            return f"{mantissa}{'' if '.' in mantissa else '.0'}00E{int(exponent or 0)}"
    raise AssertionError(value)


def _digest_of(events: Events) -> bytes:
    stored = at_once(check_metadata(events))
    digest = fingerprint.events_digest(events, stored)
    assert digest == at_once(fingerprint.events_digest_in_slices(events, stored))
    return digest


@EXAMPLES
@given(st.lists(strategies.valid_events | strategies.well_formed_events, min_size=1, max_size=2))
def test_a_batch_by_columns_has_the_digest_of_its_events(few: list[Event]) -> None:
    events = few * MIN_COLUMN_EVENTS
    columns = by_columns(events)
    assert isinstance(columns, EventColumns)
    assert _digest_of(columns) == _digest_of(events)


def _digest(metadata: bytes) -> bytes:
    actor = Actor(external_id="crm-42")
    return _digest_of([Event("deal.won", "code", actor, metadata=metadata)])


@EXAMPLES
@given(strategies.json_objects, strategies.json_objects)
def test_digests_are_equal_if_and_only_if_values_are(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    text = json.dumps(one).encode()
    assert _digest(text) == _digest(_respelled(one).encode())
    equal = msgspec.json.encode(one, order="sorted") == msgspec.json.encode(other, order="sorted")
    if not equal and one != other:
        assert _digest(text) != _digest(json.dumps(other).encode())


@EXAMPLES
@given(st.lists(strategies.moments, min_size=1, max_size=2 * fingerprint.MIN_COLUMN_TIMESTAMPS))
def test_digests_are_equal_however_a_protocol_says_its_moments(moments: list[int]) -> None:
    said = [timestamps.format_us(us) for us in moments]
    spelled = [text.replace("T", "t") for text in said]
    kinds: list[Sequence[str | int]] = [moments, said, spelled, [*said[:-1], spelled[-1]]]
    made = {
        _digest_of([Event("deal.won", "code", timestamp=moment) for moment in kind])
        for kind in kinds
    }
    assert len(made) == 1


def test_digests_tell_numbers_apart_to_the_last_digit() -> None:
    spellings = [
        *("0.1", "0.1000000000000000001", "1e-400", "2e-400", "1e-16383", "2e-16383", "-0.1"),
        *("9007199254740992", "9007199254740993", '"1"', "true", "1", "[1]", '{"1":1}', "1e308"),
        *("123456789012345678901234567890", "123456789012345678901234567891", '"1e308"', "null"),
        # Refused, but sent nevertheless.
        *("1e-999999999", "2e-999999999", "1e999", "1e-99999999999999999999", '"\\u0000"'),
    ]
    made = {_digest(b'{"n":%s}' % spelling.encode()) for spelling in spellings}
    assert len(made) == len(spellings)


@pytest.mark.parametrize(
    "spellings",
    [
        ("1", "1.0", "1e0", "10e-1", "0.1e1", "1.000"),
        ("0", "-0", "0.0", "-0.0", "0e5", "0e-5"),
        ("0.5", "5e-1", "0.50", "0.05E+1", "50e-2"),
        ("1e308", "1.0e308", "10e307", "1" + "0" * 308, "0.1e309"),
        ("12345678901234567890", "12345678901234567890.0", "1234567890123456789e1"),
        ("-1e-30", "-0." + "0" * 29 + "1", "-10e-31"),
    ],
)
def test_spellings_of_a_number_have_one_digest(spellings: tuple[str, ...]) -> None:
    assert len({_digest(b'{"n":[%s]}' % spelling.encode()) for spelling in spellings}) == 1


def test_digits_in_a_string_are_no_number() -> None:
    made = {_digest(b'{"n":"%s"}' % digits) for digits in (b"1" * 30, b"1" * 30 + b"e0")}
    assert len(made) == 2


_FIELDS = ["ticket.resolved", "code", [None, "c1", None, None], None, None, None]
_ITEMS: list[Any] = [
    {"eventType": "ticket.resolved", "category": "code", "actor": {"externalId": "c1"}},
    {"eventType": "ticket.resolved", "category": "code", "actor": [None, "c1", None, None]},
    _FIELDS,
    {"malformed": _FIELDS},
    {"malformed": [_FIELDS]},
    json.dumps(_FIELDS),
    None,
]
_parts = (
    st.sampled_from(_ITEMS)
    | strategies.json_values(st.text(max_size=3), st.integers() | st.booleans())
    | st.fixed_dictionaries(
        {"eventType": st.sampled_from(["deal.won", 1]), "category": st.just("code")},
        optional={
            "metadata": strategies.json_values(st.text(max_size=2), st.integers()),
            "actor": st.fixed_dictionaries({}, optional={"externalId": st.text(max_size=2)}),
            "duration": st.sampled_from([1, 1.5, None]),
        },
    )
)


@settings(EXAMPLES, max_examples=300)
@given(st.lists(_parts, min_size=1, max_size=3), st.lists(_parts, min_size=1, max_size=3))
def test_no_two_unequal_bodies_have_one_digest(one: list[Any], other: list[Any]) -> None:
    digests = set()
    for items in (one, other):
        body = json.dumps({"events": items}).encode()
        digests.add(_digest_of(asyncio.run(decode_events(body))))
    assert (len(digests) == 1) == (
        json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    )


def test_items_of_different_kinds_have_different_digests() -> None:
    bodies = [json.dumps({"events": [item]}).encode() for item in _ITEMS]
    made = {_digest_of(asyncio.run(decode_events(body))) for body in bodies}
    assert len(made) == len(_ITEMS)
