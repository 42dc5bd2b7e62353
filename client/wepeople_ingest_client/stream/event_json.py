"""Events in the JSON form of the REST API, as messages: camelCase members, RFC 3339 timestamps.

An event is refused here only if protobuf cannot express it; the server judges the rest. The
ValueError has words for the sender. Unknown members are left out. Numbers in metadata keep every
digit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from wepeople_ingest_client import models
from wepeople_ingest_client.encoding import encode
from wepeople_ingest_client.limits import MAX_DURATION_SECONDS
from wepeople_ingest_client.pb import ingest_pb2 as pb
from wepeople_ingest_client.stream.timestamps import to_timestamp

# What a producer takes: a message, an event of the REST API, or the members of one.
Event = pb.IngestEvent | models.Event | Mapping[str, Any]

_MAX_INT64: Final = 2**63 - 1


class _Actor(msgspec.Struct, rename="camel", gc=False):
    worker_id: str | UnsetType = UNSET
    external_id: str | UnsetType = UNSET
    email: str | UnsetType = UNSET
    display_name: str | UnsetType = UNSET


class _Event(msgspec.Struct, rename="camel"):
    event_type: str = ""
    category: str = ""
    actor: _Actor | UnsetType = UNSET
    timestamp: str | UnsetType = UNSET
    duration: int | float | UnsetType = UNSET


class _TextEvent(_Event, rename="camel"):
    metadata: Raw | UnsetType = UNSET


class _MappedEvent(_Event, rename="camel"):
    metadata: Any = UNSET


_decode: Final = msgspec.json.Decoder(_TextEvent).decode


def to_message(event: Event) -> pb.IngestEvent:
    """The message of an event in any form. Raises ValueError if a message cannot express it."""
    if isinstance(event, pb.IngestEvent):
        return event
    if isinstance(event, models.Event):
        return from_text(encode(event))
    return from_mapping(event)


def from_text(text: bytes) -> pb.IngestEvent:
    """The message of an event given as JSON text; its metadata is sent as it is written.

    Raises ValueError if the text is no JSON, or no event that a message can express.
    """
    try:
        event = _decode(text)
    except msgspec.ValidationError as error:
        raise ValueError(_explain(error)) from None
    except UnicodeDecodeError:
        raise ValueError("must be UTF-8") from None
    except (msgspec.DecodeError, RecursionError) as error:
        # The decoder's own words are clear without their prefix.
        raise ValueError(f"is not JSON: {str(error).removeprefix('JSON is malformed: ')}") from None
    return _message(
        event, UNSET if isinstance(event.metadata, UnsetType) else bytes(event.metadata)
    )


def from_mapping(members: Mapping[str, Any]) -> pb.IngestEvent:
    """The message of an event given as a mapping; metadata given as bytes is JSON text already.

    Raises ValueError if a message cannot express the event.
    """
    try:
        event = msgspec.convert(members, _MappedEvent)
    except msgspec.ValidationError as error:
        raise ValueError(_explain(error)) from None
    metadata = event.metadata
    if isinstance(metadata, bytes | Raw):
        metadata = bytes(metadata)
    elif metadata is not UNSET:
        try:
            # msgspec would write null for NaN.
            text = json.dumps(metadata, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
            metadata = text.encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"metadata: is not JSON: {error}") from None
    return _message(event, metadata)


def _message(event: _Event, metadata: bytes | UnsetType) -> pb.IngestEvent:
    try:
        message = pb.IngestEvent(event_type=event.event_type, category=event.category)
        actor = event.actor
        if actor is not UNSET:
            member = message.actor
            member.SetInParent()
            if actor.worker_id is not UNSET:
                member.worker_id = actor.worker_id
            if actor.external_id is not UNSET:
                member.external_id = actor.external_id
            if actor.email is not UNSET:
                member.email = actor.email
            if actor.display_name is not UNSET:
                member.display_name = actor.display_name
    except UnicodeEncodeError:
        raise ValueError("must not contain unpaired surrogates") from None
    if event.timestamp is not UNSET:
        try:
            message.timestamp.CopyFrom(to_timestamp(event.timestamp))
        except ValueError as error:
            raise ValueError(f"timestamp: {error}") from None
    if event.duration is not UNSET:
        message.duration_seconds = _seconds(event.duration)
    if metadata is not UNSET:
        message.metadata_json = metadata
    return message


def _seconds(duration: int | float) -> int:
    if isinstance(duration, float):
        if not duration.is_integer():
            raise ValueError("duration: must be a whole number of seconds")
        duration = int(duration)
    if not -_MAX_INT64 <= duration <= _MAX_INT64:
        bound = "at least 0" if duration < 0 else f"at most {MAX_DURATION_SECONDS}"
        raise ValueError(f"duration: must be {bound}")
    return duration


# A message of msgspec reads: Expected `str`, got `int` - at `$.actor.email`
_MISFIT: Final = re.compile(r"Expected `([^`]+)`, got `[^`]+`(?: - at `\$\.([^`]+)`)?")
_KINDS: Final = {"str": "a string", "int | float": "an integer", "object": "an object"}


def _explain(error: msgspec.ValidationError) -> str:
    misfit = _MISFIT.match(str(error))
    if misfit is None:
        return str(error)
    wanted, path = misfit.groups()
    problem = f"must be {_KINDS.get(wanted, wanted)}"
    return f"{path}: {problem}" if path else problem
