"""The pieces of a body that a strict parser refuses."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import IngestError
from core.limits import MAX_BODY_BYTES
from http_api.decoding import decode_events, decode_snapshot
from http_api.json_split import DocumentError, split_events

DEEP = "[" * 10_000 + "]" * 10_000
SPACE = st.text(" \t\r\n", max_size=3)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
ODD = st.sampled_from(
    [
        "NaN",
        "[Infinity]",
        '{"a": -Infinity}',
        DEEP,
        f'{{"\\"]}}": {DEEP}}}',
        f'["]", {DEEP}]',
        "1e999",
    ]
)


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, list[str]]:
    """A document, and the texts of its events."""
    texts = draw(st.lists(JSON.map(json.dumps) | ODD, max_size=8))
    spaced = ",".join(draw(SPACE) + text + draw(SPACE) for text in texts)
    name = draw(st.sampled_from(['"events"', r'"\u0065vents"']))
    members = [f"{name}{draw(SPACE)}:{draw(SPACE)}[{draw(SPACE)}{spaced}]{draw(SPACE)}"]
    for other in draw(st.lists(JSON, max_size=3)):
        before = draw(st.text().filter(lambda text: text != "events"))
        members.insert(0, f"{draw(SPACE)}{json.dumps(before)}: {json.dumps(other)}{draw(SPACE)}")
    if draw(st.booleans()):
        members.insert(0, f'"events": {json.dumps(draw(JSON))}')
    return f"{draw(SPACE)}{{{','.join(members)}}}{draw(SPACE)}", texts


@given(documents())
@settings(derandomize=True, deadline=None, max_examples=300)
def test_the_pieces_are_the_elements(document: tuple[str, list[str]]) -> None:
    body, texts = document
    assert split_events(body, 500) == texts


@given(st.lists(JSON, max_size=6))
@settings(derandomize=True, deadline=None, max_examples=100)
def test_the_pieces_load_back_to_the_values(values: list[Any]) -> None:
    pieces = split_events(json.dumps({"events": values}), 500)
    assert pieces is not None
    assert [json.loads(piece) for piece in pieces] == values


@pytest.mark.parametrize("value", ["null", "1", '"[]"', "{}", "true"])
def test_events_that_are_not_an_array_are_none(value: str) -> None:
    assert split_events(f'{{"events": {value}}}', 500) is None
    assert split_events(f'{{"events": [1], "events": {value}}}', 500) is None


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[]",
        "{",
        "}",
        '{"events": [1}',
        '{"events": [1 2]}',
        '{"events": [1,]}',
        '{"events": [,1]}',
        '{"events": []} x',
        '{"events": [] "a": 1}',
        '{"events": [],}',
        '{"events" []}',
        "{events: []}",
        "{1: []}",
        '{"a": NaN, "events": []}',
        f'{{"a": {DEEP}, "events": []}}',
        '{"events": ["unclosed]}',
        '{"events": [' + "[" * 10_000 + '"]}',
        '{"events": [' + "[" * 10_000 + "]}",
    ],
)  # fmt: skip
def test_what_is_not_json_by_any_reading_is_refused(body: str) -> None:
    with pytest.raises(DocumentError):
        split_events(body, 500)


def test_no_more_elements_are_looked_at_than_a_batch_may_have() -> None:
    assert split_events('{"events": [' + "1," * 600, 500) == ["1"] * 501


# --- bodies made to be slow ---------------------------------------------------------------------


def filled(before: str, unit: str, after: str) -> bytes:
    """A body of one mebibyte."""
    count = (MAX_BODY_BYTES - len(before) - len(after)) // len(unit)
    return (before + unit * count + after).encode()


MEMBERS = "".join(f',"{number:x}":1' for number in range(100_000))
SLOW = {
    "elements": filled('{"events":[', "1,", "1]}"),
    "odd elements": filled('{"events":[NaN,', "1,", "1]}"),
    "lists": filled('{"events":[NaN,[', "[],", "1]]}"),
    "numbers": filled('{"events":[NaN,[', "1,", "1]]}"),
    "strings": filled('{"events":[NaN,[', '"",', "1]]}"),
    "space": filled('{"events":[NaN,', " ", "1]}"),
    "quotes": filled('{"events":[NaN,"', '\\"', '"]}'),
    "an open string": filled('{"events":[NaN,"', '\\"', ""),
    "brackets": filled('{"events":[', "[", ""),
    "nesting": filled('{"events":[[' + DEEP, ",[]", "]]}"),
    "objects in nesting": filled('{"events":[{"a":' + DEEP, ',"":{}', "}]}"),
    "many nestings": filled('{"events":[1', "," + "[" * 1_100 + "]" * 1_100, "]}"),
    "unknown members": ('{"events":[{"a":1' + MEMBERS + "}]}").encode(),
    "odd unknown members": ('{"events":[{"a":"\\u0000"' + MEMBERS + "}]}").encode(),
    "a long number": filled('{"events":[{"duration":', "1", "}]}"),
    "other members": filled('{"events":[NaN],"a":[', "[],", "1]}"),
}


@pytest.mark.parametrize("name", SLOW)
def test_no_body_blocks_the_loop_for_long(name: str) -> None:
    body = SLOW[name]
    assert len(body) <= MAX_BODY_BYTES
    for decode in (decode_events, decode_snapshot):
        spent = []
        for _ in range(2):  # a neighbour's work must not fail the test
            begin = time.thread_time()
            with contextlib.suppress(IngestError):
                decode(body)
            spent.append(time.thread_time() - begin)
        assert min(spent) < 0.25, f"{min(spent) * 1_000:.0f} ms"
