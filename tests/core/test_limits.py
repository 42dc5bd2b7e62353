"""The limits promised to clients."""

from __future__ import annotations

import re

import pytest

from core import limits


@pytest.mark.parametrize(
    ("characters", "allowed"),
    [
        (limits.MIN_TYPE_CHARACTERS - 1, False),
        (limits.MIN_TYPE_CHARACTERS, True),
        (limits.MAX_TYPE_CHARACTERS, True),
        (limits.MAX_TYPE_CHARACTERS + 1, False),
    ],
)
def test_the_pattern_of_types_has_the_lengths_that_are_told(characters: int, allowed: bool) -> None:
    assert bool(re.match(limits.TYPE_PATTERN, "a" * characters)) == allowed
