"""Events of messages: read by columns or one by one, they are the same."""

from __future__ import annotations

import asyncio

import pytest
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from core.models import Event, EventColumns
from grpc_api import convert
from grpc_api.convert import MIN_COLUMN_EVENTS
from grpc_api.pb import ingest_pb2 as pb
from tests.grpc_api.messages import expected_event, read_events
from tests.support.strategies import EXAMPLES

_texts = st.text(max_size=5)


_int64 = st.integers(-(2**63), 2**63 - 1)


_timestamps = st.builds(
    Timestamp,
    seconds=st.sampled_from([0, 1_776_600_300]) | st.integers(-(2**40), 2**40),
    nanos=st.sampled_from([0, 5_000]) | st.integers(0, 999_999_999),
)


_actors = st.builds(
    pb.Actor, worker_id=st.none() | _texts, external_id=st.none() | _texts, email=st.none() | _texts
)


_well_formed = st.builds(
    pb.IngestEvent,
    event_type=_texts,
    category=_texts,
    actor=_actors,
    timestamp=st.none() | _timestamps,
    duration_seconds=st.none() | st.just(0) | _int64,
    metadata_json=st.none() | st.just(b"\xff") | st.binary(max_size=5),
)


_others = st.one_of(
    st.builds(pb.IngestEvent, event_type=_texts, metadata=st.builds(Struct)),
    st.builds(pb.IngestEvent, metadata=st.builds(Struct), metadata_json=st.binary(max_size=5)),
    st.builds(pb.IngestEvent, actor=_actors, timestamp=st.builds(Timestamp, nanos=st.just(-1))),
    st.builds(pb.IngestEvent, actor=st.none() | _actors),
)


@EXAMPLES
@given(st.lists(_well_formed, min_size=MIN_COLUMN_EVENTS, max_size=8))
def test_columns_have_the_events_that_were_sent(events: list[pb.IngestEvent]) -> None:
    batch = pb.StreamBatch(events=events)
    assert isinstance(asyncio.run(convert.events(batch, batch.ByteSize()))[0], EventColumns)
    assert read_events(events) == [expected_event(event) for event in events]


@EXAMPLES
@given(st.lists(_well_formed | _others, max_size=8))
def test_any_events_are_read_as_they_were_sent(events: list[pb.IngestEvent]) -> None:
    assert read_events(events) == [expected_event(event) for event in events]


def test_a_struct_is_read_as_json() -> None:
    message = pb.IngestEvent(event_type="a", actor=pb.Actor(email="a@b"))
    message.metadata.fields["n"].CopyFrom(Value(number_value=3.0))
    [event, _] = read_events([message, pb.IngestEvent(actor=message.actor)])
    assert isinstance(event, Event)
    assert event.metadata == b'{"n":3}'


@pytest.mark.parametrize("count", [1, MIN_COLUMN_EVENTS])
def test_what_nobody_knows_is_no_part_of_a_malformed_event(count: int) -> None:
    known = pb.IngestEvent(event_type="a", timestamp=Timestamp(nanos=-1))
    unknown = pb.IngestEvent.FromString(known.SerializeToString() + b"\x72\x01x")
    batch = pb.StreamBatch(events=[unknown] * count)
    read, _ = asyncio.run(convert.events(batch, batch.ByteSize()))
    assert list(read) == [expected_event(known)] * count
