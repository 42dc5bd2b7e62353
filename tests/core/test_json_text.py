"""JSON objects as they are stored: what Python's own parser reads is what it reads again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import json_text, limits
from core.slices import at_once
from tests.support import strategies
from tests.support.strategies import EXAMPLES


def check_all(texts: Sequence[bytes | None]) -> json_text.Stored:
    return at_once(json_text.check_all(texts, json_text.MAX_EVENT_DEPTH))


def storable(text: bytes) -> bytes:
    [stored] = check_all([text])
    if isinstance(stored, ValueError):
        raise stored
    assert stored is not None
    return stored


@EXAMPLES
@given(
    st.lists(strategies.metadata_texts | strategies.any_json_texts, min_size=1, max_size=4),
    st.integers(1, 100),
)
def test_texts_are_checked_together_as_each_alone(texts: list[bytes], times: int) -> None:
    alone = [str(check_all([text])[0]) for text in texts]
    together = [str(one) for one in check_all([*texts, None] * times)]
    assert together == [*alone, "None"] * times


@pytest.mark.parametrize(
    "texts",
    [
        [b'{"a":[1', b"2]}"],
        [b'{},{"a":[{}', b"{}]}"],
        [b'{} {"a":[1,', b"2]}"],
        [b'{}\n{"a":[1,', b"2]}"],
        [b'{}\n{"a":{"b":1}', b'{"c":2}}'],
        [b"{}{}", b" "],
        [b"{}", b""],
    ],
)
def test_no_text_ends_within_another(texts: list[bytes]) -> None:
    for stored in check_all(texts):
        assert isinstance(stored, ValueError) or stored == b"{}"


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
        stored = storable(text)
    except ValueError:
        assert not _is_storable(value)
    else:
        assert _is_storable(value)
        assert json.loads(stored) == value
        assert stored == json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


@EXAMPLES
@given(
    st.text(st.sampled_from('{}[]":,\\u0de8 1.-+ntfalse'), max_size=40)
    | strategies.json_values(st.text(), st.floats(allow_nan=False, allow_infinity=False)).map(
        lambda value: json.dumps(value, indent=1)
    )
)
def test_duplicates_and_white_space_are_gone_and_nothing_else(text: str) -> None:
    sent = f'{{"a": 1, "a": {text}, "b": -0, "b": 0.10}}'
    try:
        value = json.loads(sent)
        stored = storable(sent.encode())
    except ValueError:
        return
    assert json.loads(stored) == value
    assert stored.count(b'"a":') >= 1
    assert stored.endswith(b'"b":0.10}')
    assert storable(stored) == stored


@pytest.mark.parametrize(
    "number", ["1e5", "1E5", "1e-7", "0.10", "1.50e+020", "-0.0", "-0", "1" * 300]
)
def test_numbers_are_kept_and_measured_as_they_are_written(number: str) -> None:
    count = (16_384 - len('{"n":[]}') + 1) // (len(number) + 1)
    text = '{"n":[' + ",".join([number] * count) + "]}"
    spaced = " " * 10_000 + text
    assert storable(spaced.encode()) == text.encode()
    over = spaced.replace("]", "," + ",".join([number] * (len(text) // len(number))) + "]")
    with pytest.raises(ValueError, match="16384 bytes"):
        storable(over.encode())


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"[]", "must be an object"),
        (b"{} {}", "must be valid JSON"),
        (b'{"a":NaN}', "must be valid JSON"),
        (b'{"a":1e999}', "overflow a double"),
        (b'{"a":1e999,"a":1}', "overflow a double"),
        (b'{"a":%b}' % (b"9" * 309), "overflow a double"),
        (b'{"a":[%b],"a":1}' % (b"9" * 309), "overflow a double"),
        (b'{"a":1e-16384}', "16383 digits"),
        (b'{"a":"\\ud800"}', "unpaired surrogates"),
        (b'{"a":"\xff"}', "invalid UTF-8"),
        (b'{"a":"\\u0000"}', r"U\+0000"),
        (b'{"a":"\\u0000","a":1}', r"U\+0000"),
        (b'{"\\u0000":[1]}', r"U\+0000"),
        (b'{"a":' * 126 + b"1" + b"}" * 126, "at most 125 deep"),
        (b'{"a":"%b"}' % (b"x" * limits.MAX_JSON_BYTES), "at most 16384 bytes"),
    ],
)
def test_an_object_that_is_not_stored_is_refused_with_the_reason(text: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        storable(text)


def test_brackets_in_strings_do_not_count_for_the_depth() -> None:
    outer = json_text.MAX_EVENT_DEPTH - 1
    text = b'{"a":' * outer + b'{"a":"%b\\"["}' % (b"[{" * 300) + b"}" * outer
    assert storable(text) == text


def test_minus_zero_in_a_string_or_an_exponent_is_no_number() -> None:
    text = b'{"a":"[-0]","-0":[1e-0,-0,-0.0],"b":"\\"-0,"}'
    assert storable(text) == text


def test_an_escaped_backslash_begins_no_escape() -> None:
    text = b'{"a":"\\\\u0000"}'
    assert storable(text) == text
