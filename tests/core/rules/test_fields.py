"""The rules of single fields: values at their bounds, and the words for values beyond."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import ids, limits
from core.models import Actor, Event, WorkerByEmail, WorkerById, WorkerByLink
from core.rules import fields
from core.timestamps import MAX_US, MIN_US
from tests.support import strategies
from tests.support.strategies import CALLER, EXAMPLES

ORGANIZATION, APP = CALLER.organization_id, CALLER.app_id


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        (fields.type_name, "a.b"),
        (fields.type_name, "a" * 64),
        (fields.category, "code"),
        (fields.name, "x"),
        (fields.name, "\N{GRINNING FACE}" * 200),
        (fields.email, "a@b"),
        (fields.email, f"{'a' * 64}@{'b' * 255}"),
        (fields.worker_id, "no id of ours"),
        (fields.instant, MIN_US),
        (fields.instant, MAX_US),
        (fields.duration, 0),
        (fields.duration, 86_400),
    ],
)
def test_values_at_their_bounds_are_kept_as_they_are(
    rule: Callable[[Any], object], value: object
) -> None:
    assert rule(value) == value


@pytest.mark.parametrize(
    ("rule", "value", "problem"),
    [
        (fields.type_name, "ab", "3 to 64 characters"),
        (fields.type_name, "a" * 65, "3 to 64 characters"),
        (fields.type_name, ".ab", "start and end with a letter or digit"),
        (fields.type_name, "abc\n", "A-Z a-z 0-9"),
        (fields.type_name, "caf\N{LATIN SMALL LETTER E WITH ACUTE}", "A-Z a-z 0-9"),
        (fields.category, "Code", "one of communication"),
        (fields.name, "", "1 to 200 characters"),
        (fields.name, "x" * 201, "1 to 200 characters"),
        (fields.name, "a\0b", r"U\+0000"),
        (fields.name, "\ud800", "unpaired surrogates"),
        (fields.email, "@b.c", "both sides of the @"),
        (fields.email, "a.b@", "both sides of the @"),
        (fields.email, "@a@b", "both sides of the @"),
        (fields.email, f"{'a' * 65}@{'b' * 255}", "3 to 320 characters"),
        (fields.instant, MIN_US - 1, "years 1 to 9999"),
        (fields.moment, MAX_US + 1, "years 1 to 9999"),
        (fields.moment, "2026-04-19T12:05:00", "RFC 3339 date-time with an offset"),
        (fields.duration, -1, "at least 0"),
        (fields.duration, 86_401, "at most 86400"),
        (fields.duration, 1.5, "whole number of seconds"),
        (fields.duration, float("nan"), "whole number of seconds"),
    ],
)
def test_values_beyond_their_bounds_are_refused_with_the_reason(
    rule: Callable[[Any], object], value: object, problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        rule(value)


def test_a_whole_float_is_a_duration() -> None:
    assert fields.duration(240.0) == 240


def test_the_worker_id_comes_before_the_external_id_and_that_before_the_email() -> None:
    worker_id = ids.new(1_776_600_300_123_456)
    by_id = Actor(ids.text(ids.WORKER, worker_id), "crm-42", "Zo\N{LATIN CAPITAL LETTER E}@B.C")
    by_link = Actor(None, by_id.external_id, by_id.email)
    by_email = Actor(None, None, by_id.email)
    assert fields.worker_name(by_id, CALLER) == WorkerById(ORGANIZATION, worker_id)
    assert fields.worker_name(by_link, CALLER) == WorkerByLink(ORGANIZATION, APP, "crm-42")
    assert fields.worker_name(by_email, CALLER) == WorkerByEmail(ORGANIZATION, "zoe@b.c")
    assert fields.worker_name(Actor(display_name="Alex"), CALLER) is None


def test_members_that_do_not_name_the_worker_must_be_valid_too() -> None:
    with pytest.raises(ValueError, match="e-mail"):
        fields.worker_name(Actor(external_id="crm-42", email="nobody"), CALLER)


@EXAMPLES
@given(strategies.valid_actors)
def test_a_name_from_the_cache_is_the_same(actor: Actor) -> None:
    for _ in range(2):
        assert fields.recurring_worker_name(actor, CALLER) == fields.worker_name(actor, CALLER)


def test_names_are_cached_but_for_worker_ids_which_may_be_as_long_as_a_body() -> None:
    cache = fields._cached_worker_name.cache_info
    named = Actor(external_id="test_names_are_cached")
    before = cache()
    for _ in range(2):
        fields.recurring_worker_name(named, CALLER)
    assert (cache().hits - before.hits, cache().misses - before.misses) == (1, 1)
    before = cache()
    fields.recurring_worker_name(Actor(worker_id="wrk_" + "x" * 1_000), CALLER)
    assert cache() == before


def test_a_message_that_tells_every_issue_does_not_tell_of_more() -> None:
    issues = [f"member{number}: is wrong" for number in range(fields.MAX_ISSUES_IN_MESSAGE)]
    assert fields.issues_message(issues) == "; ".join(issues)


@EXAMPLES
@given(strategies.valid_events)
def test_a_valid_event_has_no_issues(event: Event) -> None:
    assert fields.event_issues(event, None) == []


def test_all_issues_of_an_event_are_found_and_a_bounded_number_is_told() -> None:
    actor = Actor("", "", "nobody", "")
    event = Event("?", "?", actor, timestamp="now", duration=-1)
    issues = fields.event_issues(event, ValueError("must be an object"))
    assert [issue.partition(":")[0] for issue in issues] == [
        *("eventType", "category"),
        *("actor.workerId", "actor.externalId", "actor.email", "actor.displayName"),
        *("timestamp", "duration", "metadata"),
    ]
    message = fields.issues_message(issues, "events[3]")
    assert message.count("events[3].") == fields.MAX_ISSUES_IN_MESSAGE
    assert message.endswith("; and 1 more")
    assert fields.issues_message([": is no object"], "events[3]") == "events[3]: is no object"


@EXAMPLES
@given(st.text(max_size=limits.MAX_TYPE_CHARACTERS + 1))
def test_storable_text_is_text_that_utf_8_can_carry(text: str) -> None:
    try:
        assert fields.storable_text(text) == text
    except ValueError:
        assert "\0" in text or any("\ud800" <= character <= "\udfff" for character in text)
