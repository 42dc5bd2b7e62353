"""JSON on the console's pages: on several lines, unless that would be far longer than itself."""

from __future__ import annotations

import pytest

from http_api.console.rendering import _pretty


@pytest.mark.parametrize(
    ("text", "pretty"),
    [
        ('{"a":[1.50,2]}', '{\n  "a": [\n    1.50,\n    2\n  ]\n}'),
        ('{"a":', '{"a":'),
    ],
)
def test_json_is_shown_on_several_lines(text: str, pretty: str) -> None:
    assert _pretty(text) == pretty


@pytest.mark.parametrize("levels", [1, 9, 100, 127])
def test_json_that_is_shown_is_not_far_longer_than_what_was_sent(levels: int) -> None:
    text = "[" * levels + ",".join(["0"] * 8_000) + "]" * levels
    assert len(_pretty(text)) <= 6 * len(text)


def test_many_flat_objects_and_brackets_in_texts_are_still_indented() -> None:
    text = ",".join(['{"name":"a [[[[ \\" {{{{","n":1}'] * 300)
    assert _pretty(f"[{text}]").count("\n") > 900
