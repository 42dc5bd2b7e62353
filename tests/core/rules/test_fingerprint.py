"""Properties of digests: equal if and only if the same is said, however it is spelled."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from core import timestamps
from core.journal.pending_events import PendingEvents
from core.models import Actor, Event, EventBatch, Malformed
from core.rules import fingerprint
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


def _digest(metadata: bytes) -> bytes:
    actor = Actor(external_id="crm-42")
    return fingerprint.events_digest([Event("deal.won", "code", actor, metadata=metadata)])


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
        fingerprint.events_digest([Event("deal.won", "code", timestamp=moment) for moment in kind])
        for kind in kinds
    }
    assert len(made) == 1


def test_digests_tell_numbers_apart_to_the_last_digit() -> None:
    spellings = [
        *("0.1", "0.1000000000000000001", "1e-400", "2e-400", "1e-999999999", "2e-999999999"),
        *("1e-99999999999999999999", "9007199254740992", "9007199254740993", '"1"', "true", "1"),
    ]
    made = {_digest(b'{"n":%s}' % spelling.encode()) for spelling in spellings}
    assert len(made) == len(spellings)
