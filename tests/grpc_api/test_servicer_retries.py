"""A batch that failed over one protocol is sent again over the other, under the same key."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct

from grpc_api.pb import ingest_pb2 as pb
from tests.conftest import MakeTenant
from tests.support.driver import JsonObject, Reply
from tests.support.grpc_driver import GrpcDriver, _message_members
from tests.support.http_driver import HttpDriver
from tests.support.tenant import Tenant, event, snapshot

pytestmark = pytest.mark.anyio

METADATA = {"whole": 3.0, "tenth": 0.1, "big": 1e22, "text": "Zoë", "list": [1, None, {"a": True}]}
EVENTS = [
    event(
        "crm-user-1",
        timestamp="2026-04-19T14:05:00.123456789+02:00",
        duration=240.0,
        metadata=METADATA,
    ),
    event("crm-user-2", duration=-5),
    event("crm-user-3", eventType="not.allowed"),
    event(actor={"email": "Zoe@Example.com", "displayName": "Zoë"}),
]
SNAPSHOT = snapshot(
    timestamp="2026-04-19t12:05:00.5z",
    metrics={"open": 12.0, "ratio": {"value": 0.5, "unit": "ratio"}},
    metadata=METADATA,
)


async def ingest_struct(
    client: GrpcDriver, key: str, events: list[dict[str, Any]], idempotency_key: str
) -> Reply:
    """The batch with its metadata as Struct."""
    request = pb.IngestEventsRequest(
        events=[pb.IngestEvent(**_as_struct(one, pb.IngestEvent)) for one in events],
        idempotency_key=idempotency_key,
    )
    return await client._call(client.stub.IngestEvents, request, key)


async def snapshot_struct(
    client: GrpcDriver, key: str, item: dict[str, Any], idempotency_key: str
) -> Reply:
    """The snapshot with its metrics and metadata as Struct."""
    members = _as_struct(item, pb.IngestSnapshotRequest)
    request = pb.IngestSnapshotRequest(idempotency_key=idempotency_key, **members)
    return await client._call(client.stub.IngestSnapshot, request, key)


def _as_struct(item: JsonObject, message_type: Any) -> dict[str, Any]:
    members = _message_members(item, message_type)
    for name in ("metadata", "metrics"):
        if name in item:
            del members[f"{name}_json"]
            members[name] = Struct()
            members[name].update(item[name])
    return members


Way = str
WAYS = ["http", "json", "struct"]


class Sender:
    """Sends the same thing in three ways."""

    def __init__(self, http: HttpDriver, grpc: GrpcDriver) -> None:
        self.http, self.grpc = http, grpc

    async def ingest(self, way: Way, key: str, events: list[Any], idempotency_key: str) -> Reply:
        if way == "struct":
            return await ingest_struct(self.grpc, key, events, idempotency_key)
        client = self.http if way == "http" else self.grpc
        return await client.ingest(key, events, idempotency_key)

    async def snapshot(self, way: Way, key: str, item: Any, idempotency_key: str) -> Reply:
        if way == "struct":
            return await snapshot_struct(self.grpc, key, item, idempotency_key)
        client = self.http if way == "http" else self.grpc
        return await client.snapshot(key, item, idempotency_key)


@pytest.fixture
def sender(http: HttpDriver, grpc: GrpcDriver) -> Sender:
    return Sender(http, grpc)


PAIRS = [(first, second) for first in WAYS for second in WAYS if first != second]


@pytest.mark.parametrize(("first", "second"), PAIRS)
async def test_a_batch_is_written_once_over_both_protocols(
    first: Way, second: Way, sender: Sender, tenant: Tenant
) -> None:
    written = await sender.ingest(first, tenant.key, EVENTS, "key-1")
    again = await sender.ingest(second, tenant.key, EVENTS, "key-1")
    assert (written.replayed, again.replayed) == (False, True)
    assert written.code is again.code is None
    assert again.request_id == written.request_id
    assert again.accepted == written.accepted
    assert again.rejected == written.rejected
    assert written.codes == ["invalid_body", "forbidden_event_type"]
    assert written.accepted[0][1] == "2026-04-19T12:05:00.123456Z"
    assert len(await tenant.events()) == 2
    assert await tenant.used() == 2


@pytest.mark.parametrize(("first", "second"), PAIRS)
async def test_a_snapshot_is_written_once_over_both_protocols(
    first: Way, second: Way, sender: Sender, tenant: Tenant
) -> None:
    written = await sender.snapshot(first, tenant.key, SNAPSHOT, "key-1")
    again = await sender.snapshot(second, tenant.key, SNAPSHOT, "key-1")
    assert (written.replayed, again.replayed) == (False, True)
    assert again.body == written.body
    assert len(await tenant.history()) == 1
    assert await tenant.used() == 1


DIFFERENT: dict[str, dict[str, Any]] = {
    "duration": {"duration": 241},
    "no duration": {"duration": ...},
    "timestamp": {"timestamp": "2026-04-19T12:05:00.123457Z"},
    "no timestamp": {"timestamp": ...},
    "metadata": {"metadata": {**METADATA, "tenth": 0.2}},
    "metadata's type": {"metadata": {**METADATA, "whole": "3"}},
    "no metadata": {"metadata": ...},
    "category": {"category": "code"},
    "actor": {"actor": {"externalId": "crm-user-1", "displayName": "One"}},
}


@pytest.mark.parametrize("name", DIFFERENT)
async def test_another_body_under_the_same_key_is_refused(
    name: str, sender: Sender, tenant: Tenant
) -> None:
    changed = {**EVENTS[0], **DIFFERENT[name]}
    changed = {member: value for member, value in changed.items() if value is not ...}
    assert (await sender.ingest("http", tenant.key, EVENTS[:1], "key-1")).code is None
    for way in WAYS:
        reply = await sender.ingest(way, tenant.key, [changed], "key-1")
        assert reply.code == "invalid_body"
        assert "Idempotency-Key" in reply.message
    fewer = await sender.ingest("struct", tenant.key, [EVENTS[0], EVENTS[0]], "key-1")
    assert fewer.code == "invalid_body"
    assert len(await tenant.events()) == 1


async def test_a_malformed_event_does_not_make_a_batch_unequal_to_itself(
    grpc: GrpcDriver, tenant: Tenant
) -> None:
    request = pb.IngestEventsRequest(idempotency_key="key-1")
    request.events.append(pb.IngestEvent(**_message_members(event(), pb.IngestEvent)))
    request.events.add().metadata.fields["a"].number_value = float("nan")
    first = await grpc._call(grpc.stub.IngestEvents, request, tenant.key)
    again = await grpc._call(grpc.stub.IngestEvents, request, tenant.key)
    assert first.codes == ["invalid_body"]
    assert (again.replayed, again.answer) == (True, first.answer)
    request.events[1].metadata.fields["b"].number_value = 1
    other = await grpc._call(grpc.stub.IngestEvents, request, tenant.key)
    assert other.code == "invalid_body"
    assert len(await tenant.events()) == 1


async def test_keys_of_batches_and_of_snapshots_are_apart(sender: Sender, tenant: Tenant) -> None:
    assert (await sender.snapshot("json", tenant.key, SNAPSHOT, "key-1")).code is None
    batch = await sender.ingest("http", tenant.key, EVENTS, "key-1")
    assert (batch.code, batch.replayed) == (None, False)


async def test_a_request_that_wrote_nothing_is_judged_afresh_over_the_other_protocol(
    sender: Sender, new_tenant: MakeTenant
) -> None:
    tenant = await new_tenant(monthly_quota=0)
    first = await sender.ingest("struct", tenant.key, EVENTS[:1], "key-1")
    assert first.code == "quota_exceeded"
    await tenant.update(monthly_quota=5)
    second = await sender.ingest("http", tenant.key, EVENTS[:1], "key-1")
    assert (second.code, second.replayed) == (None, False)
    assert len(await tenant.events()) == 1
