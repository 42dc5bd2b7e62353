"""The domain's values: a batch by columns is the batch of its events."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from core.models import Actor, Event, EventColumns, distinct
from tests.support import strategies
from tests.support.strategies import EXAMPLES


@EXAMPLES
@given(st.lists(st.text(max_size=1)))
def test_values_are_found_by_their_indexes_among_the_distinct_ones(values: list[str]) -> None:
    indexes, found = distinct(values)
    assert [found[index] for index in indexes] == values
    assert found == list(dict.fromkeys(values))


@EXAMPLES
@given(st.lists(strategies.well_formed_events, max_size=8))
def test_columns_iterate_over_their_events(events: list[Event]) -> None:
    kind_indexes, kinds = distinct([(event.event_type, event.category) for event in events])
    actor_indexes, actors = distinct([event.actor for event in events])
    columns = EventColumns(
        kind_indexes=kind_indexes,
        kinds=kinds,
        actor_indexes=actor_indexes,
        actors=actors,
        timestamps=[event.timestamp for event in events],
        durations=[event.duration for event in events],
        metadata=[event.metadata for event in events],
    )
    assert len(columns) == len(events)
    # A NaN is not equal to itself.
    assert list(map(repr, columns)) == list(map(repr, events))
    assert list(map(repr, columns[1:3])) == list(map(repr, events[1:3]))


def test_equal_actors_are_one_person() -> None:
    one, same = Actor(external_id="crm-42"), Actor(external_id="crm-42")
    assert hash(one) == hash(same)
    assert distinct([one, same]) == ([0, 0], [one])
