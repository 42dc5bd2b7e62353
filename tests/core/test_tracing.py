"""The caller's span as it comes in, and the attributes of every request's."""

from __future__ import annotations

from core.tracing import MAX_TRACESTATE_CHARACTERS, Parent, request_attributes


def test_one_traceparent_is_the_parent() -> None:
    assert Parent.of(["00-a-b-01"], ["x=1", "y=2"]) == Parent("00-a-b-01", "x=1,y=2")
    assert Parent.of(["00-a-b-01"], []) == Parent("00-a-b-01", "")


def test_none_or_several_are_no_parent() -> None:
    assert Parent.of([], ["x=1"]) is None
    assert Parent.of(["00-a-b-01", "00-a-b-01"], []) is None


def test_a_long_tracestate_is_not_kept() -> None:
    fits = "x=" + "1" * (MAX_TRACESTATE_CHARACTERS - 2)
    assert Parent.of(["p"], [fits]) == Parent("p", fits)
    assert Parent.of(["p"], [fits + "1"]) == Parent("p", "")
    assert Parent.of(["p"], [fits, "y=2"]) == Parent("p", "")


def test_a_request_that_was_not_admitted_has_its_id_alone() -> None:
    assert request_attributes("req_1", None, None) == {"wepeople.request_id": "req_1"}
