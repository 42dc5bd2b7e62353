"""Members at and beyond their limits, and members that are set, empty or absent."""

from __future__ import annotations

import datetime
import json
import math
from typing import Any

import grpc as grpc_library
import pytest
from google.protobuf.struct_pb2 import ListValue, NullValue, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from grpc_api.pb import ingest_pb2 as pb
from tests.grpc_api.messages import message, send, send_snapshot, struct
from tests.support.grpc_driver import GrpcDriver, error_reply, event_message
from tests.support.tenant import Tenant, event

pytestmark = pytest.mark.anyio
MAX_JSON_BYTES = 16_384


def _nested_struct(depth: int) -> Struct:
    made = Struct()
    for _ in range(depth):
        outer = Struct()
        outer.fields["a"].struct_value.CopyFrom(made)
        made = outer
    return made


def _text_of_size(size: int) -> dict[str, str]:
    return {"text": "x" * (size - len('{"text":""}'))}


MALFORMED = {
    "both": message(metadata=struct({"a": 1}), metadata_json=b'{"a":1}'),
    "both, empty": message(metadata=Struct(), metadata_json=b""),
    "NaN": message(metadata=Struct(fields={"a": Value(number_value=math.nan)})),
    "Infinity": message(metadata=Struct(fields={"a": Value(number_value=-math.inf)})),
    "no kind": message(metadata=Struct(fields={"a": Value()})),
    "no kind in a list": message(
        metadata=Struct(fields={"a": Value(list_value=ListValue(values=[Value()]))})
    ),
    "U+0000 in a Struct": message(metadata=struct({"a": "nul\0"})),
    "U+0000 in a Struct's name": message(metadata=struct({"nul\0": 1})),
    "Struct over 16 KiB": message(metadata=struct(_text_of_size(MAX_JSON_BYTES + 1))),
    "JSON over 16 KiB": message(
        metadata_json=json.dumps(_text_of_size(MAX_JSON_BYTES + 1), separators=(",", ":")).encode()
    ),
    "no JSON": message(metadata_json=b""),
    "not an object": message(metadata_json=b"[]"),
    "a byte that begins no text": message(metadata_json=b"\xff"),
    "both, and one a byte that begins no text": message(metadata=Struct(), metadata_json=b"\xff"),
    "JSON with NaN": message(metadata_json=b'{"a":NaN}'),
    "JSON that is not UTF-8": message(metadata_json=b'{"a":"\xff"}'),
    "JSON with a surrogate": message(metadata_json=b'{"a":"\xed\xa0\x80"}'),
    "JSON nested too deep": message(metadata_json=b'{"a":' + b"[" * 125 + b"]" * 125 + b"}"),
    "negative nanos": message(timestamp=Timestamp(seconds=1, nanos=-1)),
    "too many nanos": message(timestamp=Timestamp(seconds=1, nanos=1_000_000_000)),
    "before year 1": message(timestamp=Timestamp(seconds=-62_135_596_801)),
    "after year 9999": message(timestamp=Timestamp(seconds=253_402_300_800)),
    "seconds of the largest": message(timestamp=Timestamp(seconds=2**63 - 1, nanos=999_999_999)),
    "seconds of the smallest": message(timestamp=Timestamp(seconds=-(2**63))),
    "negative duration": message(duration_seconds=-1),
    "duration over a day": message(duration_seconds=86_401),
    "duration of the largest": message(duration_seconds=2**63 - 1),
    "duration of the smallest": message(duration_seconds=-(2**63)),
    "U+0000 in a name": message(actor=pb.Actor(external_id="nul\0")),
    "empty name": message(actor=pb.Actor(external_id="")),
    "empty display name": message(actor=pb.Actor(display_name="")),
    "no type": pb.IngestEvent(category="code", actor=pb.Actor(external_id="x")),
    "nothing": pb.IngestEvent(),
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_a_malformed_event_fails_and_its_neighbours_do_not(
    name: str, grpc: GrpcDriver, tenant: Tenant
) -> None:
    reply = await send(grpc, tenant, message(), MALFORMED[name], message())
    assert [(one.index, one.code) for one in reply.rejected] == [(1, "invalid_body")]
    assert reply.rejected[0].message.startswith("events[1].")
    assert len(reply.accepted) == 2
    assert len(await tenant.events()) == 2


async def test_an_actor_that_is_set_but_empty_is_missing(grpc: GrpcDriver, tenant: Tenant) -> None:
    no_actor = event_message(event())
    no_actor.ClearField("actor")
    no_actor.actor.SetInParent()
    reply = await send(grpc, tenant, message(), no_actor)
    assert reply.codes == ["missing_actor"]


WELL_FORMED = {
    "Struct of 16 KiB": message(metadata=struct(_text_of_size(MAX_JSON_BYTES))),
    "JSON of 16 KiB with spaces": message(
        metadata_json=json.dumps(_text_of_size(MAX_JSON_BYTES), indent=9).encode()
    ),
    "JSON nested deep": message(metadata_json=b'{"a":' + b"[" * 124 + b"]" * 124 + b"}"),
    "Struct nested deep": message(metadata=_nested_struct(20)),
    "year 1": message(timestamp=Timestamp(seconds=-62_135_596_800)),
    "year 9999": message(timestamp=Timestamp(seconds=253_402_300_799, nanos=999_999_999)),
    "before 1970": message(timestamp=Timestamp(seconds=-1, nanos=999_999_999)),
    "no time": message(duration_seconds=0),
    "a day": message(duration_seconds=86_400),
}


@pytest.mark.parametrize("name", WELL_FORMED)
async def test_events_at_the_limits_are_accepted(
    name: str, grpc: GrpcDriver, tenant: Tenant
) -> None:
    reply = await send(grpc, tenant, WELL_FORMED[name])
    assert reply.code is None, reply.message
    [stored] = await tenant.events()
    sent = WELL_FORMED[name]
    if sent.HasField("timestamp"):
        epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
        occurred = (stored["occurred_at"] - epoch) // datetime.timedelta(microseconds=1)
        assert occurred == sent.timestamp.seconds * 1_000_000 + sent.timestamp.nanos // 1_000
    if sent.HasField("duration_seconds"):
        assert stored["duration_seconds"] == sent.duration_seconds


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"metrics": struct({"a": 1}), "metrics_json": b'{"a":1}'},
        {"metrics": Struct(fields={"a": Value(number_value=math.nan)})},
        {"metrics": Struct(fields={"a": Value(null_value=NullValue.NULL_VALUE)})},
        {"metrics": Struct(fields={"a": Value()})},
        {"metrics": struct({"a": True})},
        {"metrics": struct(_text_of_size(MAX_JSON_BYTES + 1))},
        {"metrics_json": b"[]"},
        {"metrics": struct({"a": 1}), "metadata": Struct(), "metadata_json": b"{}"},
        {"metrics": struct({"a": 1}), "timestamp": Timestamp(nanos=-1)},
    ],
)
async def test_malformed_snapshots(
    members: dict[str, Any], grpc: GrpcDriver, tenant: Tenant
) -> None:
    reply = await send_snapshot(grpc, tenant, **members)
    assert reply.code == "invalid_body"
    assert reply.message.split(":")[0].split(".")[0] in ("metrics", "metadata", "timestamp")
    assert await tenant.history() == []


async def test_an_empty_idempotency_key_is_refused_and_an_absent_one_is_not(
    grpc: GrpcDriver, tenant: Tenant
) -> None:
    request = pb.IngestEventsRequest(events=[message()], idempotency_key="")
    call = grpc.stub.IngestEvents(request, metadata=(("authorization", f"Bearer {tenant.key}"),))
    with pytest.raises(grpc_library.aio.AioRpcError) as caught:
        await call
    assert error_reply(caught.value).code == "invalid_body"
    assert (await send(grpc, tenant, message())).code is None
