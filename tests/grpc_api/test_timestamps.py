"""Timestamps over the wire, to the microsecond."""

from __future__ import annotations

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from core.timestamps import format_us
from grpc_api import timestamps
from grpc_api.pb import ingest_pb2 as pb
from tests.grpc_api.messages import message
from tests.support.grpc_driver import GrpcDriver
from tests.support.tenant import Tenant

pytestmark = pytest.mark.anyio


async def test_timestamps_are_echoed_to_the_microsecond(grpc: GrpcDriver, tenant: Tenant) -> None:
    sent = Timestamp(seconds=-1, nanos=123_456_789)
    call = grpc.stub.IngestEvents(
        pb.IngestEventsRequest(events=[message(timestamp=sent)]),
        metadata=(("authorization", f"Bearer {tenant.key}"),),
    )
    response = await call
    assert response.accepted[0].timestamp == Timestamp(seconds=-1, nanos=123_456_000)


@pytest.mark.parametrize(
    ("seconds", "nanos", "us"),
    [(0, 0, 0), (1, 999, 1_000_000), (-1, 999_999_999, -1), (9, 1_000, 9_000_001)],
)
def test_nanos_below_a_microsecond_are_cut_off(seconds: int, nanos: int, us: int) -> None:
    sent = Timestamp(seconds=seconds, nanos=nanos)
    assert timestamps.to_us(sent) == us
    assert timestamps.column_to_us([sent.SerializeToString()] * 2) in (None, [us] * 2)


@pytest.mark.parametrize("nanos", [-1, 1_000_000_000])
def test_nanos_out_of_their_range_are_an_error(nanos: int) -> None:
    wrong, right = Timestamp(seconds=1_776_600_300, nanos=nanos), Timestamp(seconds=1_776_600_300)
    with pytest.raises(ValueError, match="nanos must be 0 to 999999999"):
        timestamps.to_us(wrong)
    with pytest.raises(ValueError, match="nanos must be 0 to 999999999"):
        timestamps.column_to_us([right.SerializeToString(), wrong.SerializeToString()])


@pytest.mark.parametrize(
    "us", [0, 1, -1, -1_000_000, 1_776_600_300_123_456, 253_402_300_799_999_999]
)
def test_a_moment_of_the_core_is_the_same_in_either_form(us: int) -> None:
    from_text, from_us = Timestamp(), Timestamp()
    timestamps.set_moment(from_text, format_us(us))
    timestamps.set_moment(from_us, us)
    assert from_text == from_us
    assert timestamps.to_us(from_us) == us
