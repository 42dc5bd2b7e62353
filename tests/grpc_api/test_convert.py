"""Events out of messages: read by columns or one by one, they are the same."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from core.models import Actor, Event, EventColumns, Malformed
from grpc_api import convert
from grpc_api.pb import ingest_pb2 as pb
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


def _read(events: Sequence[pb.IngestEvent]) -> list[Event | Malformed]:
    """The events of a batch that went over the wire."""
    data = pb.StreamBatch(sequence=1, events=events).SerializeToString()
    read, size_bytes = convert.events(pb.StreamBatch.FromString(data))
    assert size_bytes == len(data)
    assert len(read) == len(events)
    return list(read)


def _expected(message: pb.IngestEvent) -> Event | Malformed:
    has = message.HasField
    us = message.timestamp.seconds * 1_000_000 + message.timestamp.nanos // 1_000
    problem = None
    if has("timestamp") and message.timestamp.nanos < 0:
        problem = "timestamp: nanos must be 0 to 999999999"
    if has("metadata") and has("metadata_json"):
        problem = "metadata: set metadata or metadata_json, not both"
    if problem:
        return Malformed((problem,), message.SerializeToString(deterministic=True))
    actor = message.actor
    return Event(
        message.event_type,
        message.category,
        Actor(
            actor.worker_id if actor.HasField("worker_id") else None,
            actor.external_id if actor.HasField("external_id") else None,
            actor.email if actor.HasField("email") else None,
        )
        if has("actor")
        else None,
        us if has("timestamp") else None,
        message.duration_seconds if has("duration_seconds") else None,
        b"{}" if has("metadata") else message.metadata_json if has("metadata_json") else None,
    )


@EXAMPLES
@given(st.lists(_well_formed, max_size=8))
def test_columns_have_what_was_sent(events: list[pb.IngestEvent]) -> None:
    batch = pb.StreamBatch(events=events)
    assert isinstance(convert.events(batch)[0], EventColumns)
    assert _read(events) == [_expected(event) for event in events]


@EXAMPLES
@given(st.lists(_well_formed | _others, max_size=8))
def test_whatever_was_sent_is_read(events: list[pb.IngestEvent]) -> None:
    assert _read(events) == [_expected(event) for event in events]


_SECONDS = [2**28 - 1, 2**28, 1_776_600_300, 2**35 - 1, 2**35]  # where encodings grow longer


@EXAMPLES
@given(
    st.sampled_from([_SECONDS, _SECONDS[1:-1], [*_SECONDS, 0, -1]]).flatmap(
        lambda among: st.lists(
            st.builds(Timestamp, seconds=st.sampled_from(among), nanos=st.sampled_from([0, 5_000]))
        )
    )
)
def test_moments_without_nanos_stay_with_their_event(moments: list[Timestamp]) -> None:
    events = [pb.IngestEvent(actor=pb.Actor(), timestamp=moment) for moment in moments]
    assert _read(events) == [_expected(event) for event in events]


def _sent_in_pieces() -> bytes:
    """Two events, of which one has each member twice and the other none: the last one wins."""
    first = pb.IngestEvent(
        event_type="old",
        category="old",
        actor=pb.Actor(external_id="old", email="a@b"),
        timestamp=Timestamp(seconds=1, nanos=1_000),
        duration_seconds=1,
        metadata_json=b"old",
    ).SerializeToString()
    second = pb.IngestEvent(
        event_type="new",
        category="new",
        actor=pb.Actor(external_id="new"),
        timestamp=Timestamp(seconds=2),
        duration_seconds=2,
        metadata_json=b"new",
    ).SerializeToString()
    pieces = [first + second, b""]
    return b"".join(b"\x0a" + bytes([len(piece)]) + piece for piece in pieces)


@pytest.mark.parametrize("with_actor", [False, True])
def test_members_that_were_sent_twice_stay_with_their_event(with_actor: bool) -> None:
    request = pb.IngestEventsRequest.FromString(_sent_in_pieces())
    if with_actor:
        request.events[1].actor.external_id = "somebody"
    read = list(convert.events(request)[0])
    assert read == [
        Event("new", "new", Actor(None, "new", "a@b"), 2_000_001, 2, b"new"),
        Event("", "", Actor(None, "somebody") if with_actor else None),
    ]


@pytest.mark.parametrize("numbers", [b"\x05", b"\x05\x07"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_numbers_of_another_wire_type_are_unknown(numbers: bytes, count: int) -> None:
    packed = bytes([len(numbers)]) + numbers
    moment = b"\x0a" + packed + b"\x12" + packed
    usual = pb.IngestEvent(event_type="a", category="b", actor=pb.Actor(email="a@b"))
    odd = usual.SerializeToString() + b"\x2a" + packed + b"\x22" + bytes([len(moment)]) + moment
    events = [pb.IngestEvent.FromString(odd)] + [usual] * (count - 1)
    assert not events[0].HasField("duration_seconds")
    batch = pb.StreamBatch(events=events)
    assert list(convert.events(batch)[0]) == [_expected(event) for event in events]


def test_a_struct_is_read_as_json() -> None:
    message = pb.IngestEvent(event_type="a", actor=pb.Actor(email="a@b"))
    message.metadata.fields["n"].CopyFrom(Value(number_value=3.0))
    [event, _] = _read([message, pb.IngestEvent(actor=message.actor)])
    assert isinstance(event, Event)
    assert event.metadata == b'{"n":3}'
