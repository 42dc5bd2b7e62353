"""Columns of a batch: a value stays with its event, whatever was sent."""

from __future__ import annotations

import asyncio

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from core.models import Actor, Event
from grpc_api import convert
from grpc_api.convert import MIN_COLUMN_EVENTS
from grpc_api.pb import ingest_pb2 as pb
from tests.grpc_api.messages import expected_event, read_events
from tests.support.strategies import EXAMPLES

_SECONDS = [2**28 - 1, 2**28, 1_776_600_300, 2**35 - 1, 2**35]  # where encodings grow longer


@EXAMPLES
@given(
    st.sampled_from([_SECONDS, _SECONDS[1:-1], [*_SECONDS, 0, -1]]).flatmap(
        lambda among: st.lists(
            st.builds(Timestamp, seconds=st.sampled_from(among), nanos=st.sampled_from([0, 5_000])),
            min_size=MIN_COLUMN_EVENTS,
        )
    )
)
def test_timestamps_without_nanos_stay_with_their_event(moments: list[Timestamp]) -> None:
    events = [pb.IngestEvent(actor=pb.Actor(), timestamp=moment) for moment in moments]
    assert read_events(events) == [expected_event(event) for event in events]


def _sent_in_pieces() -> bytes:
    """Events of which one has each member twice and the others none: the last one wins."""
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
    pieces = [first + second] + [b""] * (MIN_COLUMN_EVENTS - 1)
    return b"".join(b"\x0a" + bytes([len(piece)]) + piece for piece in pieces)


@pytest.mark.parametrize("with_actor", [False, True])
def test_members_that_were_sent_twice_stay_with_their_event(with_actor: bool) -> None:
    request = pb.IngestEventsRequest.FromString(_sent_in_pieces())
    if with_actor:
        for event in request.events[1:]:
            event.actor.external_id = "somebody"
    read = list(asyncio.run(convert.events(request, request.ByteSize()))[0])
    assert read == [
        Event("new", "new", Actor(None, "new", "a@b"), 2_000_001, 2, b"new"),
        *[Event("", "", Actor(None, "somebody") if with_actor else None)] * (len(read) - 1),
    ]


@pytest.mark.parametrize("numbers", [b"\x05", b"\x05\x07"])
@pytest.mark.parametrize("count", [1, MIN_COLUMN_EVENTS, MIN_COLUMN_EVENTS + 1])
def test_numbers_of_another_wire_type_are_unknown(numbers: bytes, count: int) -> None:
    packed = bytes([len(numbers)]) + numbers
    moment = b"\x0a" + packed + b"\x12" + packed
    usual = pb.IngestEvent(event_type="a", category="b", actor=pb.Actor(email="a@b"))
    odd = usual.SerializeToString() + b"\x2a" + packed + b"\x22" + bytes([len(moment)]) + moment
    events = [pb.IngestEvent.FromString(odd)] + [usual] * (count - 1)
    assert not events[0].HasField("duration_seconds")
    batch = pb.StreamBatch(events=events)
    assert list(asyncio.run(convert.events(batch, batch.ByteSize()))[0]) == [
        expected_event(event) for event in events
    ]
