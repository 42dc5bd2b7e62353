"""Request messages, as the events and snapshots of the core."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from core.models import (
    Actor,
    Event,
    EventColumns,
    Events,
    Malformed,
    Snapshot,
    distinct,
)
from core.slices import InTurns, Sliced, at_once, in_turns
from grpc_api import columnar, timestamps
from grpc_api.pb import ingest_pb2 as pb
from grpc_api.struct_json import json_text

MAX_CACHED_ACTORS: Final = 10_000
MAX_CACHED_ACTOR_BYTES: Final = 256
MIN_SLICED_BYTES: Final = 262_144  # of a message that is parsed in a slice, and merged in another
MIN_COLUMN_EVENTS: Final = 4  # fewer are read sooner one by one
STRUCT_SLICE_BYTES: Final = 16_384  # of Structs are read in one turn of the event loop


async def events(
    batch: columnar.BatchMessage, message_bytes: int, run: InTurns = in_turns
) -> tuple[Events, int]:
    """The events of a batch, and its size in bytes, or that of a small message.

    A message that cannot be an event becomes a :class:`Malformed`, which the core rejects alone.
    ``message_bytes``: of the message that the batch came in. ``run`` reads Structs, with turns of
    the event loop for others between some and the next.
    """
    if len(batch.events) < MIN_COLUMN_EVENTS and message_bytes < STRUCT_SLICE_BYTES:
        return at_once(_read_each(batch.events)), message_bytes
    if message_bytes >= MIN_SLICED_BYTES:
        merged, size_bytes = await run(_merged(batch))
    else:
        merged, size_bytes = columnar.merge_events(batch)
    # The usual batch is read as columns: no event has a Struct, and each has an actor.
    if not merged.metadata and len(merged.actor) == len(batch.events):
        with contextlib.suppress(ValueError):
            return _columns(batch.events, merged), size_bytes
    return await run(_read_each(batch.events)), size_bytes


def _merged(batch: columnar.BatchMessage) -> Sliced[tuple[Any, int]]:
    merged = columnar.merge_events(batch)
    yield
    return merged


def _read_each(messages: Sequence[pb.IngestEvent]) -> Sliced[list[Event | Malformed]]:
    read: list[Event | Malformed] = []
    size = 0
    for message in messages:
        if size >= STRUCT_SLICE_BYTES:
            yield
            size = 0
        if message.HasField("metadata"):
            size += message.metadata.ByteSize()
        read.append(_event(message))
    return read


def _columns(messages: Sequence[pb.IngestEvent], merged: Any) -> EventColumns:
    """The events of ``messages``, from ``merged`` (:func:`columnar.merge_events`).

    A column as long as the batch has one value for each event. A shorter one does not tell which
    event lacks the value: the member is then read message by message. An empty one means that no
    event has it. Raises ValueError if a value is wrong.
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
        timestamps=_timestamps(messages, merged.timestamp[:]),
        durations=durations,
        metadata=texts,
    )


def _timestamps(
    messages: Sequence[pb.IngestEvent], encoded: Sequence[bytes]
) -> Sequence[int | None]:
    if not encoded:
        return [None] * len(messages)
    column = timestamps.column_to_us(encoded) if len(encoded) == len(messages) else None
    return [_timestamp(message) for message in messages] if column is None else column


def _event(message: pb.IngestEvent) -> Event | Malformed:
    try:
        return Event(
            message.event_type,
            message.category,
            _actor(message.actor) if message.HasField("actor") else None,
            _timestamp(message),
            _duration(message),
            _metadata(message),
        )
    except ValueError as error:
        message.DiscardUnknownFields()
        # No JSON begins with a zero, so this is unlike anything that is malformed as JSON.
        content = b"\0" + message.SerializeToString(deterministic=True)
        return Malformed((str(error),), content)


def _duration(message: pb.IngestEvent) -> int | None:
    return message.duration_seconds if message.HasField("duration_seconds") else None


def snapshot(message: pb.IngestSnapshotRequest) -> Snapshot:
    """The snapshot of a request. Raises ValueError, such as ``metrics: is required``."""
    has = message.HasField
    metrics = json_text(
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
        _timestamp(message),
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
    """The actor of an encoded message, cached if small: the same people come again and again."""
    return (_cached_actor if len(encoded) <= MAX_CACHED_ACTOR_BYTES else _encoded_actor)(encoded)


def _timestamp(message: pb.IngestEvent | pb.IngestSnapshotRequest) -> int | None:
    return timestamps.to_us(message.timestamp) if message.HasField("timestamp") else None


def _metadata(message: pb.IngestEvent | pb.IngestSnapshotRequest) -> bytes | None:
    return json_text(
        "metadata",
        message.metadata if message.HasField("metadata") else None,
        message.metadata_json if message.HasField("metadata_json") else None,
    )
