"""Protobuf messages to domain types and back."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from core import ids
from core.limits import MAX_BATCH_EVENTS
from core.models import (
    Actor,
    Caller,
    Event,
    EventColumns,
    Events,
    Malformed,
    Receipt,
    Rejection,
    Snapshot,
    SnapshotReceipt,
    distinct,
)
from core.timestamps import parse
from grpc_api import columnar
from grpc_api.pb import ingest_pb2 as pb

MAX_CACHED_ACTORS: Final = 10_000
MAX_CACHED_ACTOR_BYTES: Final = 256
_EXACT_INTEGERS: Final = 2.0**53  # doubles up to here are the integers they look like
_NANOS: Final = 1_000_000_000  # in a second

_encode: Final = msgspec.json.Encoder().encode


def events(batch: columnar.Batch) -> tuple[Events, int]:
    """The events of a batch, and the batch's size in bytes.

    Of a message that does not have the shape of an event, a :class:`Malformed` is made.
    """
    merged, size_bytes = columnar.merge(batch)
    # Columns are for the usual batch: no event has a Struct, and each has an actor.
    if not merged.metadata and len(merged.actor) == len(batch.events):
        with contextlib.suppress(ValueError):
            return _columns(batch.events, merged), size_bytes
    return [_event(message) for message in batch.events], size_bytes


def _columns(messages: Sequence[pb.IngestEvent], merged: Any) -> EventColumns:
    """The events of ``messages``, from their columns; raises ValueError if one is wrong.

    ``merged``: of :func:`event_columns.merge`. A column that is as long as the batch has a value of
    each event. A shorter one does not tell whose its values are: then the member is read message by
    message, or is absent everywhere if the column is empty.
    """
    count = len(messages)
    event_types, categories, durations, texts = (
        merged.event_type[:],
        merged.category[:],
        merged.duration_seconds[:],
        merged.metadata_json[:],
    )
    if len(event_types) < count:
        event_types = [message.event_type for message in messages]
    if len(categories) < count:
        categories = [message.category for message in messages]
    if len(durations) < count:
        durations = [_duration(message) for message in messages] if durations else [None] * count
    if len(texts) < count:
        texts = [_metadata(message) for message in messages] if texts else [None] * count
    kind_indexes, kinds = distinct(zip(event_types, categories, strict=True))
    actor_indexes, actors = distinct(merged.actor[:])
    return EventColumns(
        kind_indexes=kind_indexes,
        kinds=kinds,
        actor_indexes=actor_indexes,
        actors=list(map(_known_actor, actors)),
        timestamps=_moments(messages, merged),
        durations=durations,
        metadata=texts,
    )


def _moments(messages: Sequence[pb.IngestEvent], merged: Any) -> Sequence[int | None]:
    encoded = merged.timestamp[:]
    if not encoded:
        return [None] * len(messages)
    columns = columnar.timestamps(encoded) if len(encoded) == len(messages) else None
    if columns is None:
        return [_moment(message) for message in messages]
    seconds, nanos = columns
    _check_nanos(min(nanos), max(nanos))
    return [since * 1_000_000 + part // 1_000 for since, part in zip(seconds, nanos, strict=True)]


def _event(message: pb.IngestEvent) -> Event | Malformed:
    try:
        return Event(
            message.event_type,
            message.category,
            _actor(message.actor) if message.HasField("actor") else None,
            _moment(message),
            _duration(message),
            _metadata(message),
        )
    except ValueError as error:
        return Malformed((str(error),), message.SerializeToString(deterministic=True))


def _duration(message: pb.IngestEvent) -> int | None:
    return message.duration_seconds if message.HasField("duration_seconds") else None


def snapshot(message: pb.IngestSnapshotRequest) -> Snapshot:
    """The snapshot of a request. Raises ValueError: ``metrics: is required``."""
    has = message.HasField
    metrics = _json(
        "metrics",
        message.metrics if has("metrics") else None,
        message.metrics_json if has("metrics_json") else None,
    )
    if metrics is None:
        raise ValueError("metrics: is required")
    return Snapshot(
        message.snapshot_type,
        metrics,
        _actor(message.actor) if has("actor") else None,
        _moment(message),
        _metadata(message),
    )


def _actor(message: pb.Actor) -> Actor:
    has = message.HasField
    return Actor(
        message.worker_id if has("worker_id") else None,
        message.external_id if has("external_id") else None,
        message.email if has("email") else None,
        message.display_name if has("display_name") else None,
    )


def _encoded_actor(encoded: bytes) -> Actor:
    return _actor(pb.Actor.FromString(encoded))


_cached_actor: Final = lru_cache(MAX_CACHED_ACTORS)(_encoded_actor)


def _known_actor(encoded: bytes) -> Actor:
    """The actor of a message, from memory if it can be: the same people come again and again."""
    return (_cached_actor if len(encoded) <= MAX_CACHED_ACTOR_BYTES else _encoded_actor)(encoded)


def _moment(message: pb.IngestEvent | pb.IngestSnapshotRequest) -> int | None:
    """Microseconds since the epoch; the core judges the range."""
    if not message.HasField("timestamp"):
        return None
    timestamp = message.timestamp
    _check_nanos(timestamp.nanos)
    return timestamp.seconds * 1_000_000 + timestamp.nanos // 1_000


def _check_nanos(*nanos: int) -> None:
    for one in nanos:
        if not 0 <= one < _NANOS:
            raise ValueError("timestamp: nanos must be 0 to 999999999")


def _metadata(message: pb.IngestEvent | pb.IngestSnapshotRequest) -> bytes | None:
    return _json(
        "metadata",
        message.metadata if message.HasField("metadata") else None,
        message.metadata_json if message.HasField("metadata_json") else None,
    )


def _json(member: str, struct: Struct | None, text: bytes | None) -> bytes | None:
    if struct is None:
        return text
    if text is not None:
        raise ValueError(f"{member}: set {member} or {member}_json, not both")
    try:
        return _encode(_object(struct))
    except ValueError as error:
        raise ValueError(f"{member}: {error}") from None


def _object(struct: Struct) -> dict[str, Any]:
    return {name: _value(value) for name, value in struct.fields.items()}


def _value(value: Value) -> Any:
    match value.WhichOneof("kind"):
        case "number_value":
            number = value.number_value
            if not math.isfinite(number):
                raise ValueError("must not contain NaN or Infinity")
            # As a person would write it: 3, not 3.0.
            whole = number.is_integer() and abs(number) <= _EXACT_INTEGERS
            return int(number) if whole else number
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return _object(value.struct_value)
        case "list_value":
            return [_value(item) for item in value.list_value.values]
        case "null_value":
            return None
    raise ValueError("must not contain a value of no kind")


def rejected_events(rejected: Sequence[Rejection]) -> list[pb.RejectedEvent]:
    """The rejected items as messages."""
    return [
        pb.RejectedEvent(index=one.index, code=one.code.value, message=one.message)
        for one in rejected
    ]


def events_response(receipt: Receipt) -> pb.IngestEventsResponse:
    """The answer to a batch."""
    return pb.IngestEventsResponse(
        request_id=receipt.request_id,
        accepted=[
            pb.AcceptedEvent(event_type=one.event_type, timestamp=_timestamp(one.timestamp))
            for one in receipt.echoes
        ],
        rejected=rejected_events(receipt.rejected),
        batch_limit=MAX_BATCH_EVENTS,
        replayed=receipt.replayed,
    )


def _timestamp(echo: str) -> Timestamp:
    us = parse(echo)[0]
    return Timestamp(seconds=us // 1_000_000, nanos=us % 1_000_000 * 1_000)


def ack(receipt: Receipt, sequence: int) -> pb.StreamEventsResponse:
    """The answer to a batch of a stream."""
    return pb.StreamEventsResponse(
        ack=pb.StreamAck(
            sequence=sequence,
            duplicate=receipt.duplicate,
            request_id=receipt.request_id,
            accepted=receipt.accepted,
            rejected=rejected_events(receipt.rejected),
            quota_left=receipt.quota_left,
            replayed=receipt.replayed,
        )
    )


def snapshot_response(receipt: SnapshotReceipt) -> pb.IngestSnapshotResponse:
    """The answer to a snapshot."""
    return pb.IngestSnapshotResponse(
        request_id=receipt.request_id,
        snapshot_type=receipt.snapshot_type,
        worker=pb.Worker(
            id=ids.text(ids.WORKER, receipt.worker.id), display_name=receipt.worker.display_name
        ),
        replayed=receipt.replayed,
    )


def ping_response(caller: Caller) -> pb.PingResponse:
    """The answer to a ping."""
    return pb.PingResponse(
        organization_id=ids.text(ids.ORGANIZATION, caller.organization_id),
        app=pb.App(id=ids.text(ids.APP, caller.app_id), slug=caller.app_slug, name=caller.app_name),
    )
