"""JSON objects that are stored as sent: what is storable is what Python's own parser accepts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import json_text, limits
from tests.support import strategies
from tests.support.strategies import EXAMPLES


@EXAMPLES
@given(
    st.lists(strategies.metadata_texts | strategies.any_json_texts, min_size=1, max_size=3),
    st.integers(1, 300),
)
def test_texts_that_are_storable_as_sent_together_are_storable_each(
    texts: list[bytes], times: int
) -> None:
    if json_text.are_storable_as_sent(texts * times):
        assert [json_text.storable(text) for text in texts] == texts


@pytest.mark.parametrize(
    "texts",
    [
        [b'{"a":[1', b"2]}"],
        [b"{}{}", b" "],
        [b"{}", b""],
        [b"{}", b"[]"],
        [b'{"a":"\\u0000"}', b"{}"],
        [b'{"a":1e999}'],
        [b'{"a":%b}' % (b"9" * 400)],
        [b'{"a":' + b"[" * 256 + b"]" * 256 + b"}"],
    ],
)
def test_unusual_texts_need_a_closer_look(texts: list[bytes]) -> None:
    assert not json_text.are_storable_as_sent(texts)


def test_usual_texts_are_storable_as_sent() -> None:
    usual = b'{"ticket_id": "SUP-1", "tags": ["a", "b"], "score": 4.5}'
    assert json_text.are_storable_as_sent([None, *[usual] * 200, b"{}"])


def _is_storable(value: object) -> bool:
    """The rule, on what Python's own parser made of the text."""
    match value:
        case str():
            return "\0" not in value and not any("\ud800" <= c <= "\udfff" for c in value)
        case int():
            return abs(value) < 2**1024 - 2**970  # what still rounds to a double
        case float():
            return value - value == 0
        case dict():
            return all(_is_storable(key) and _is_storable(item) for key, item in value.items())
        case list():
            return all(map(_is_storable, value))
    return True


@EXAMPLES
@given(
    st.dictionaries(
        st.text(st.characters()),
        strategies.json_values(
            st.text(st.characters() | st.sampled_from("\0\ud800\udfff")),
            st.floats() | st.integers() | st.integers(-(10**320), 10**320),
        ),
        max_size=4,
    ),
    st.booleans(),
)
def test_an_object_is_stored_if_python_can_say_it_too(value: dict[str, Any], ascii_: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_).encode(errors="surrogatepass")
    try:
        stored = json_text.storable(text)
    except ValueError:
        assert not _is_storable(value)
    else:
        assert _is_storable(value)
        assert stored == text


@pytest.mark.parametrize("number", ["1e5", "1E5", "1e-7", "0.10", "1.50e+020", "-0.0", "1" * 300])
def test_numbers_are_measured_as_they_are_written(number: str) -> None:
    count = (16_384 - len('{"n":[]}') + 1) // (len(number) + 1)
    text = '{"n":[' + ",".join([number] * count) + "]}"
    spaced = " " * 10_000 + text
    assert json_text.storable(spaced.encode()) == text.encode()
    over = spaced.replace("]", "," + ",".join([number] * (len(text) // len(number))) + "]")
    with pytest.raises(ValueError, match="16384 bytes"):
        json_text.storable(over.encode())


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"[]", "must be an object"),
        (b"{} {}", "must be valid JSON"),
        (b'{"a":NaN}', "must be valid JSON"),
        (b'{"a":1e999}', "overflow a double"),
        (b'{"a":%b}' % (b"9" * 309), "overflow a double"),
        (b'{"a":"\\ud800"}', "unpaired surrogates"),
        (b'{"a":"\xff"}', "invalid UTF-8"),
        (b'{"a":"\\u0000"}', r"U\+0000"),
        (b'{"\\u0000":[1]}', r"U\+0000"),
        (b'{"a":' * 257 + b"1" + b"}" * 257, "at most 256 deep"),
        (b'{"a":"%b"}' % (b"x" * limits.MAX_JSON_BYTES), "at most 16384 bytes"),
    ],
)
def test_an_object_that_is_not_stored_is_refused_with_the_reason(text: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        json_text.storable(text)


def test_brackets_in_strings_do_not_count_for_the_depth() -> None:
    deepest = b'{"a":' * (limits.MAX_JSON_DEPTH - 1) + b'{"a":"%b\\"["}' % (b"[{" * 300)
    text = deepest + b"}" * (limits.MAX_JSON_DEPTH - 1)
    assert json_text.storable(text) == text


def test_an_object_is_compacted_only_if_it_would_be_too_long() -> None:
    fits = b'{"a": ' + b" " * 1_000 + b"1}"
    assert json_text.storable(fits) == fits
    too_long = b'{"a": ' + b" " * limits.MAX_JSON_BYTES + b"1}"
    assert json_text.storable(too_long) == b'{"a":1}'
    assert json_text.parse(too_long) == (b'{"a":1}', {"a": 1})


def test_any_json_value_can_be_decoded() -> None:
    for text, value in ((b"null", None), (b"[1,2.5]", [1, 2.5]), (b'"a"', "a")):
        assert json_text.decode(text) == value
