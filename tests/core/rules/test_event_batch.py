"""Properties of the rules: whatever is sent is judged, and what is valid is accepted."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from core import ids
from core.error_codes import ErrorCode
from core.models import Event, EventColumns, Events, Malformed, WorkerName
from core.rules import event_batch
from core.rules.event_batch import MIN_COLUMN_EVENTS, MIN_MESSAGE_CHARACTERS, CheckedEvents
from core.slices import at_once
from tests.support import strategies
from tests.support.strategies import ALLOWED, CALLER, EXAMPLES

RECEIVED_US = 1_776_600_300_123_456
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def check_events(events: Events, *, echo: bool = True, size_bytes: int = 0) -> CheckedEvents:
    stored = at_once(event_batch.check_metadata(events))
    return event_batch.check_events(
        CALLER, events, stored, RECEIVED_US, echo=echo, size_bytes=size_bytes
    )


@EXAMPLES
@given(st.lists(strategies.any_events, max_size=5))
def test_every_event_is_either_passed_on_or_rejected_for_a_reason(
    events: list[Event | Malformed],
) -> None:
    checked = check_events(events)
    rejected = [rejection.index for rejection in checked.rejected]
    assert sorted([*checked.indexes, *rejected]) == list(range(len(events)))
    assert rejected == sorted(rejected)
    for rejection in checked.rejected:
        assert rejection.code in {
            ErrorCode.INVALID_BODY,
            ErrorCode.MISSING_ACTOR,
            ErrorCode.FORBIDDEN_EVENT_TYPE,
        }
        assert rejection.message.startswith(f"events[{rejection.index}]")
        if rejection.code is ErrorCode.FORBIDDEN_EVENT_TYPE:
            event = events[rejection.index]
            assert isinstance(event, Event)
            assert event.event_type not in ALLOWED


@EXAMPLES
@given(st.lists(strategies.valid_events, max_size=5))
def test_valid_events_are_passed_on(events: list[Event]) -> None:
    checked = check_events(events)
    assert not checked.rejected
    assert [echo.event_type for echo in checked.echoes] == [event.event_type for event in events]


@EXAMPLES
@given(st.lists(strategies.valid_events | strategies.any_events, max_size=8), st.booleans())
def test_what_is_wrong_with_one_event_changes_nothing_for_the_others(
    few: list[Event | Malformed], echo: bool
) -> None:
    events = few * MIN_COLUMN_EVENTS
    with _one_id():
        together = check_events(events, echo=echo)
        wrong = Malformed(("is wrong",), b"")
        spoiled = check_events([*events, wrong], echo=echo)
    *others, last = spoiled.rejected
    assert last.index == len(events)
    assert _as_lists(structs.replace(spoiled, rejected=others)) == _as_lists(together)


@EXAMPLES
@given(st.lists(strategies.valid_events | strategies.well_formed_events, min_size=1, max_size=8))
def test_events_are_judged_equally_in_columns(few: list[Event]) -> None:
    events = few * MIN_COLUMN_EVENTS
    columns = EventColumns(
        kind_indexes=[*range(len(few))] * MIN_COLUMN_EVENTS,
        kinds=[(event.event_type, event.category) for event in few],
        actor_indexes=range(len(events)),
        actors=[event.actor for event in events],
        timestamps=[event.timestamp for event in events],
        durations=[event.duration for event in events],
        metadata=[event.metadata for event in events],
    )
    assert list(columns) == events
    with _one_id():
        one_by_one = check_events(events)
        by_columns = check_events(columns)
    assert by_columns.rejected == one_by_one.rejected
    assert by_columns.tails == one_by_one.tails
    assert list(by_columns.echoes) == list(one_by_one.echoes)
    assert _names(by_columns) == _names(one_by_one)


def test_messages_grow_with_the_batch_and_not_beyond() -> None:
    events = [Malformed(("eventType: is required", "category: is required"), b"")] * 500
    for size_bytes in (0, 474, 1_000_000):
        rejected = check_events(events, size_bytes=size_bytes).rejected
        assert [one.index for one in rejected] == list(range(500))
        assert {one.code for one in rejected} == {ErrorCode.INVALID_BODY}
        shown = [one.message for one in rejected if "category" in one.message]
        assert shown[0].startswith("events[0].eventType: is required; ")
        longest = max(map(len, shown))
        if size_bytes < 1_000_000:
            most = MIN_MESSAGE_CHARACTERS + size_bytes
            assert most <= sum(map(len, shown)) < most + longest
            assert rejected[499].message == "events[499]: not shown"
        else:
            assert len(shown) == 500


@contextlib.contextmanager
def _one_id() -> Iterator[None]:
    """Have all batches begin with the same id."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ids, "first_of_batch", lambda now_us: now_us)
        yield


def _as_lists(checked: CheckedEvents) -> dict[str, object]:
    return {
        member: value if isinstance(value, int) else list(value)
        for member, value in structs.asdict(checked).items()
    }


def _names(checked: CheckedEvents) -> list[WorkerName]:
    return [checked.names[index] for index in checked.actor_indexes]
