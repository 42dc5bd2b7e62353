"""Bodies made to be slow: a search for the worst, which starts from the worst that are known.

Whatever a body of one mebibyte says, no slice of the work on it may hold up the event loop for
long, and all of it shall cost no more than ten times the CPU of valid events of the same size.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from functools import partial

import pytest

from core.journal.judging import MIN_JUDGED_BYTES
from core.limits import MAX_BODY_BYTES
from http_api.decoding import decode_events
from tests.support.judging import (
    check_cost,
    judge_events,
    judge_snapshot,
    judge_together,
    usual_cost,
)
from tests.support.tenant import event

SEARCH_CPU_SECONDS = 2.0

ONE = json.dumps(event(), separators=(",", ":"))[:-1]


def filled(before: str, unit: str, after: str, size: int = MAX_BODY_BYTES) -> str:
    """A text of a size, in which a unit is repeated."""
    return before + unit * ((size - len(before) - len(after)) // len(unit)) + after


def numbered(form: str, count: int) -> str:
    return ",".join(form % number for number in range(count))


def batch(*events: str) -> bytes:
    return ('{"events":[' + ",".join(events) + "]}").encode()[:MAX_BODY_BYTES]


def many(inside: str) -> bytes:
    """A full batch with this in the metadata of each event."""
    room = MAX_BODY_BYTES // 500 - len(ONE) - 30
    return batch(*[f'{ONE},"metadata":{{"a":{inside[:room]}}}}}'] * 500)


def listed(unit: str, most: int = MAX_BODY_BYTES // 500) -> str:
    """A list of a unit, as long as fits in the metadata of an event of a full batch."""
    return filled("[", unit + ",", unit + "]", most - len(ONE) - 40)


def one(member: str, value: str) -> bytes:
    return batch(f'{ONE},"{member}":{value}}}')


BIG = MAX_BODY_BYTES - 1_000
WORST: dict[str, bytes] = {
    # seen on the running service
    "brackets in an actor": one("actor", "[" * 300_000),
    "closed brackets in an actor": one("actor", "[" * 400_000 + "]" * 400_000),
    "members of one name beside NaN": one("a", filled('{"x":NaN,', '"a":1,', '"a":1}', BIG)),
    "members of one name": batch(filled(ONE + ",", '"a":1,', '"a":"\\u0000"}', BIG)),
    "legal exponents": many(listed("1e308")),
    "empty lists and U+0000": many(listed("[]")[:-1] + ',"\\u0000"]'),
    "integers of 308 digits": many(listed("9" * 308)),
    # nesting
    "open brackets": b"[" * MAX_BODY_BYTES,
    "lists in a list": one("x", filled("[", "[" * 100 + "]" * 100 + ",", "1]", BIG)),
    "lists in metadata": many(listed("[" * 100 + "]" * 100)),
    "objects in metadata": many(listed('{"a":' * 100 + "1" + "}" * 100)),
    "empty objects": one("metadata", filled('{"a":[', "{},", '1],"a":1}', BIG)),
    "nested long ago": one("metadata", filled('{"a":[', "[[]],", '1],"a":1}', BIG)),
    # strings
    "empty strings": one("x", filled("[", '"",', "1]", BIG)),
    "quotes": one("x", filled('"', '\\"', '"', BIG)),
    "backslashes": one("x", filled('"', "\\\\", '"', BIG)),
    "lone surrogates": one("x", filled('"', "\\ud800", '"', BIG)),
    "lone surrogates in metadata": one("metadata", filled('{"a":"', "\\udc00", '"}', BIG)),
    "escapes": many('"' + "\\u0041" * 320 + '"'),
    "an open string": one("x", '"' + '\\"' * 400_000)[:-3],
    "names": one("x", "{" + numbered('"%x":1', 100_000) + "}"),
    "names in metadata": many("{" + numbered('"%x":1', 200) + "}"),
    "white space": filled('{"events":[', " ", "1]}").encode(),
    # numbers
    "zeros": many(listed("-0")),
    "fractions": many(listed("1.50")),
    "one long number": one("x", "1" * BIG),
    "one long fraction": one("metadata", '{"a":0.' + "1" * BIG + "}"),
    "one long exponent": one("x", "1e" + "1" * BIG),
    "durations": batch(filled(ONE + ",", '"duration":1.7e308,', '"duration":1}', BIG)),
    "different exponents": one("x", "[" + numbered("1.%05de300", 80_000) + "]"),
    "different fractions": batch(
        *[f'{ONE},"metadata":{{"a":[{numbered(f"{i}.%03d1", 230)}]}}}}' for i in range(500)]
    ),
    # elements
    "elements": filled('{"events":[', "1,", "1]}").encode(),
    "tiny events": filled('{"events":[', '{"eventType":"a","category":""},', "{}]}").encode(),
    "malformed events": batch(*[listed("1.5")] * 490),
    "members of a malformed event": batch("{" + numbered('"%x":"\\u0000"', 50_000) + "}"),
}


@pytest.fixture(scope="module")
def usual(collector_of_the_service: None) -> float:
    """The CPU seconds of valid events that fill a body with short members, as events have them."""
    members = ",".join(
        f'"ticket_{n}":"SUP-{n}","priority_{n}":"high","score_{n}":{n}.5,"count_{n}":{n}'
        for n in range(23)
    )
    body = many("{" + members + "}")
    assert len(body) > MAX_BODY_BYTES * 0.8
    return usual_cost(partial(judge_events, body))


@pytest.mark.parametrize("name", WORST)
def test_no_body_that_is_known_costs_much(name: str, usual: float) -> None:
    body = WORST[name]
    assert len(body) <= MAX_BODY_BYTES
    for work in (judge_events, judge_snapshot):
        check_cost(partial(work, body), usual)


UNITS = [
    *("1", "-0", "1.0", "0.1", "1e308", "1.79e308", "9" * 308, "1e-999", "null", "true", '""'),
    *('"\\n"', '"\\u00e9"', '"\\ud83d\\ude00"', '"\\ud800"', '"\\u0000"', '"é"', '"a":1'),
    *("[]", "{}", '{"a":1}', '{"a":1,"a":2}', "[" * 60 + "]" * 60, '{"a":' * 60 + "1" + "}" * 60),
    *("[", "{", '"', "\\", " ", "NaN", "1e999", "%d", '"%d"', '{"%d":%d}', "0.%d", "%d.5e300"),
]
FRAMES = ["%s", "[%s]", '{"a":[%s]}', '{"a":[%s],"a":1}', '{"a":"%s"}', "{%s}", '{"b":{"a":[%s]}}']
MEMBERS = ["metadata", "x", "actor", "duration", "eventType", "timestamp"]


SMALL_RATIO = 6  # in all: two slices, and the decoding before them


@pytest.mark.parametrize("unit", [unit for unit in UNITS if "%" not in unit])
def test_a_transaction_waits_for_no_small_bodies_long(unit: str, usual: float) -> None:
    base = len(one("metadata", '{"a":[]}'))
    inside = (unit + ",") * ((MIN_JUDGED_BYTES - base - 10) // (len(unit.encode()) + 1))
    for body in (one("metadata", f'{{"a":[{inside}1]}}'), one("actor", f"[{inside}1]")):
        assert len(body) < MIN_JUDGED_BYTES
        check_cost(partial(judge_together, body), usual, whole_ratio=SMALL_RATIO)


def random_body(chance: random.Random) -> bytes:
    """A body that repeats a few units in the members of some events."""
    events = chance.choice([1, 1, 2, 40, 500])
    room = MAX_BODY_BYTES // events - len(ONE) - 60
    made = []
    for _ in range(min(events, 4)):
        units = chance.choices(UNITS, k=chance.choice([1, 1, 2, 3]))
        unit = chance.choice([",", ",", ", ", ""]).join(units) + chance.choice([",", ",", " ,", ""])
        frame = chance.choice(FRAMES)
        inside = unit * (max(room - len(frame) - 1, 1) // len(unit))
        if "%d" in inside:
            inside = "".join(
                piece + str(number)
                for number, piece in enumerate(inside[: room // 2].split("%d"))
            )  # fmt: skip
        value = frame.replace("%s", inside + "1")
        made.append(f'{ONE},"{chance.choice(MEMBERS)}":{value}}}')
    return batch(*[made[number % len(made)] for number in range(events)])


def test_no_body_that_is_found_costs_much(usual: float) -> None:
    chance = random.Random(10)
    end = time.thread_time() + SEARCH_CPU_SECONDS
    while time.thread_time() < end:
        body = random_body(chance)
        for work in (judge_events, judge_snapshot):
            try:
                check_cost(partial(work, body), usual)
            except AssertionError as error:
                error.add_note(repr(body[:400]))
                raise


def test_others_have_their_turn_while_a_body_is_decoded() -> None:
    async def turns() -> int:
        made = 0

        async def count() -> None:
            nonlocal made
            while True:
                made += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        await decode_events(WORST["different exponents"])
        await decode_events(batch(*[f'{ONE},"x":1,"duration":1.0,"y":"{"x" * 1_500}"}}'] * 500))
        counting.cancel()
        return made

    assert asyncio.run(turns()) > 10
