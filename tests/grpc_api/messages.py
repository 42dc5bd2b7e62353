"""Messages that tests send, and the events of the core that they are to become."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from google.protobuf.struct_pb2 import Struct

from core.models import Actor, Event, Malformed
from grpc_api import convert
from grpc_api.pb import ingest_pb2 as pb
from tests.support.driver import Reply
from tests.support.grpc_driver import GrpcDriver, event_message
from tests.support.tenant import Tenant, event


def struct(value: dict[str, Any]) -> Struct:
    """A dictionary as a client library writes it."""
    made = Struct()
    made.update(value)
    return made


def message(**members: Any) -> pb.IngestEvent:
    """A valid event with fields set."""
    made = event_message(event())
    made.MergeFrom(pb.IngestEvent(**members))
    return made


async def send(client: GrpcDriver, tenant: Tenant, *events: pb.IngestEvent) -> Reply:
    """IngestEvents with hand-made messages."""
    return await client._call(
        client.stub.IngestEvents, pb.IngestEventsRequest(events=events), tenant.key
    )


async def send_snapshot(client: GrpcDriver, tenant: Tenant, **members: Any) -> Reply:
    """IngestSnapshot with hand-made fields."""
    request = pb.IngestSnapshotRequest(
        snapshot_type="tickets_open", actor=pb.Actor(external_id="crm-user-1"), **members
    )
    return await client._call(client.stub.IngestSnapshot, request, tenant.key)


def read_events(events: Sequence[pb.IngestEvent]) -> list[Event | Malformed]:
    """The events of a batch that went over the wire."""
    data = pb.StreamBatch(sequence=1, events=events).SerializeToString()
    read, size_bytes = asyncio.run(convert.events(pb.StreamBatch.FromString(data), len(data)))
    assert size_bytes == len(data)
    assert len(read) == len(events)
    return list(read)


def expected_event(message: pb.IngestEvent) -> Event | Malformed:
    has = message.HasField
    us = message.timestamp.seconds * 1_000_000 + message.timestamp.nanos // 1_000
    problem = None
    if has("timestamp") and message.timestamp.nanos < 0:
        problem = "timestamp: nanos must be 0 to 999999999"
    if has("metadata") and has("metadata_json"):
        problem = "metadata: set metadata or metadata_json, not both"
    if problem:
        return Malformed((problem,), b"\0" + message.SerializeToString(deterministic=True))
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
