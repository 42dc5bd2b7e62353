"""Checks of the values that operators type."""

from __future__ import annotations

import pytest

from core.admin import checks
from core.admin.errors import InvalidValueError
from core.rules import fields


def test_a_valid_value_is_returned() -> None:
    assert checks.checked("e-mail", fields.email, "a@b") == "a@b"
    assert checks.name("app name", "CRM Hub") == "CRM Hub"
    assert checks.requests_per_second(1) == 1
    assert checks.requests_per_second(checks.MAX_REQUESTS_PER_SECOND) == 1_000_000


def test_the_message_names_the_value_and_the_rule() -> None:
    with pytest.raises(InvalidValueError, match="the e-mail 'nobody' must be an e-mail address"):
        checks.checked("e-mail", fields.email, "nobody")
    with pytest.raises(InvalidValueError, match=r"^the app name must be 1 to 200 characters"):
        checks.name("app name", "x" * 201)


@pytest.mark.parametrize("name", [" a", "a ", "a\n", "\N{NO-BREAK SPACE}a"])
def test_a_name_has_no_blanks_at_its_ends(name: str) -> None:
    with pytest.raises(InvalidValueError, match="white space"):
        checks.name("app name", name)


@pytest.mark.parametrize("rate", [0, -1, 1_000_001])
def test_a_rate_limit_is_bounded(rate: int) -> None:
    with pytest.raises(InvalidValueError, match="1 to 1000000 requests per second"):
        checks.requests_per_second(rate)


@pytest.mark.parametrize("given", ["", "a\0b", "\ud800"])
def test_text_that_cannot_be_stored_is_not_looked_up(given: str) -> None:
    assert checks.storable(given) is None
    assert checks.storable("a" + given.strip("\0b\ud800")) is not None
