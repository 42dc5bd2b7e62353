"""Nesting by the bytes of a text, compared with a reader that goes from one to the next."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from core import json_scan
from core.slices import at_once

PARTS = [b"[", b"{", b"]", b"}", b"[[[", b'"a[b"', b'"\\"]["', b'"\\\\"', b'""', b"1,", b" "]


def too_deep_at(text: bytes, levels: int) -> int | None:
    """Read on until a bracket is too deep."""
    depth, in_string, position = 0, False, 0
    while position < len(text):
        byte = text[position : position + 1]
        if in_string and byte == b"\\":
            position += 1
        elif byte == b'"':
            in_string = not in_string
        elif not in_string and byte in b"[{":
            depth += 1
            if depth > levels:
                return position
        elif not in_string and byte in b"]}":
            depth -= 1
        position += 1
    return None


@given(st.lists(st.sampled_from(PARTS), max_size=60), st.integers(0, 5))
def test_the_first_bracket_that_is_too_deep_is_found(parts: list[bytes], levels: int) -> None:
    text = b"".join(parts)
    assert at_once(json_scan.too_deep_at(text, levels)) == too_deep_at(text, levels)
