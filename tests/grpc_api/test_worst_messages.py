"""Messages made to be slow: a search for the worst, as tests/http_api/test_worst_bodies.py."""

from __future__ import annotations

import random
import time
from functools import partial
from typing import Any

import pytest
from google.protobuf.struct_pb2 import ListValue, NullValue, Struct, Value

from core.limits import MAX_BODY_BYTES
from grpc_api.pb import ingest_pb2 as pb
from tests.grpc_api.messages import message
from tests.support.judging import check_cost, judge_message, usual_cost

MAX_MESSAGE_BYTES = MAX_BODY_BYTES
SEARCH_CPU_SECONDS = 2.0


def request(events: int, **members: Any) -> bytes:
    return pb.IngestEventsRequest(
        events=[message(**members)] * events, idempotency_key="k"
    ).SerializeToString()


def struct_of(value: Value, count: int) -> Struct:
    """A Struct of one list, in which a value is repeated."""
    return Struct(fields={"a": Value(list_value=ListValue(values=[value] * count))})


def number(value: float) -> Value:
    return Value(number_value=value)


def nested(levels: int) -> Value:
    value = Value(list_value=ListValue())
    for _ in range(levels):
        value = Value(list_value=ListValue(values=[value]))
    return value


EMPTY_LIST = Value(list_value=ListValue())
WORST = {
    "empty lists": request(1, metadata=struct_of(EMPTY_LIST, 260_000)),
    "large numbers": request(500, metadata=struct_of(number(1e300), 180)),
    "short lists": request(500, metadata=struct_of(EMPTY_LIST, 500)),
    "nested lists": request(500, metadata=struct_of(nested(40), 10)),
    "empty Structs": request(500, metadata=struct_of(Value(struct_value=Struct()), 500)),
    "strings": request(500, metadata=struct_of(Value(string_value=""), 500)),
    "numbers in JSON": request(500, metadata_json=b'{"a":[%b1]}' % (b"1e308," * 330)),
    "lists in JSON": request(500, metadata_json=b'{"a":[%b1]}' % (b"[]," * 660)),
    "brackets in JSON": request(1, metadata_json=b"[" * 1_000_000),
    "one long JSON": request(1, metadata_json=b'{"a":[%b1],"a":1}' % (b"[[]]," * 200_000)),
    "no JSON": request(500, metadata_json=b"{" * 2_000),
}


@pytest.fixture(scope="module")
def usual(collector_of_the_service: None) -> float:
    """The CPU seconds of valid events with Structs that fill a message."""
    metadata = Struct()
    for n in range(15):
        metadata.update({f"ticket_{n}": "SUP-1", f"score_{n}": n / 2, f"is_new_{n}": True})
    data = request(1_000_000 // len(request(1, metadata=metadata)), metadata=metadata)
    return usual_cost(partial(judge_message, data))


@pytest.mark.parametrize("name", WORST)
def test_no_message_that_is_known_costs_much(name: str, usual: float) -> None:
    assert len(WORST[name]) <= MAX_MESSAGE_BYTES
    check_cost(partial(judge_message, WORST[name]), usual)


def random_value(chance: random.Random, levels: int) -> Value:
    kind = chance.randrange(8 if levels else 5)
    if kind >= 6:
        inside = [random_value(chance, levels - 1) for _ in range(chance.choice([0, 1, 1, 2]))]
        if kind == 6:
            return Value(list_value=ListValue(values=inside))
        return Value(struct_value=Struct(fields={str(n): one for n, one in enumerate(inside)}))
    return [
        number(chance.choice([0, -0.0, 1e308, 0.1, 1 / 3, 2.0**53])),
        Value(string_value=chance.choice(["", "é", '"' * 9, "\0"])),
        Value(bool_value=True),
        Value(null_value=NullValue.NULL_VALUE),
        EMPTY_LIST,
        Value(),
    ][kind]


def test_no_message_that_is_found_costs_much(usual: float) -> None:
    chance = random.Random(10)
    end = time.thread_time() + SEARCH_CPU_SECONDS
    while time.thread_time() < end:
        value = random_value(chance, chance.choice([0, 2, 10, 30]))
        events = chance.choice([1, 50, 500])
        room = MAX_MESSAGE_BYTES // events - 300
        count = max(room // (value.ByteSize() + 4), 1)
        data = request(events, metadata=struct_of(value, count))
        if len(data) > MAX_MESSAGE_BYTES:
            continue
        try:
            check_cost(partial(judge_message, data), usual)
        except AssertionError as error:
            error.add_note(f"{events} events, {value}")
            raise
