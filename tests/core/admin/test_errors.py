"""Refusals of an operator's request."""

from __future__ import annotations

from core.admin.errors import AdministrationError, NotFoundError, not_found


def test_a_name_that_nothing_has_is_answered_with_a_similar_one_or_the_remedy() -> None:
    error = not_found("organization", "Acne", ["Acme", "Other"], "list them")
    assert isinstance(error, NotFoundError)
    assert isinstance(error, AdministrationError)
    assert str(error) == "there is no organization 'Acne': did you mean 'Acme'?"
    assert str(not_found("app", "x", [], "list them")) == "there is no app 'x': list them"
