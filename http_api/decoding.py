"""Request bodies to domain types.

The usual body is decoded in one call. msgspec stops at the first thing that does not fit, so a
body that does not decode is looked at again, event by event and member by member: what is wrong
with one event is said of that event, all of it, and costs its neighbours nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
from msgspec import Raw

from core import json_text
from core.error_codes import ErrorCode
from core.errors import IngestError
from core.limits import MAX_BATCH_EVENTS
from core.models import Actor, Event, Malformed, Snapshot
from core.rules import fields
from core.rules.fields import issues_message
from http_api.json_split import DocumentError, split_events, split_members
from http_api.schemas import WireEvent, WireSnapshot

_Undecodable = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

# Stands for each of too many events: the core refuses the batch by its length alone.
_UNJUDGED: Final = Malformed((), b"")

_Item = TypeVar("_Item", Event, Snapshot)


class _Envelope(msgspec.Struct):
    events: list[WireEvent]


class _RawEnvelope(msgspec.Struct):
    events: list[Raw]


_decode_events: Final = msgspec.json.Decoder(_Envelope).decode
_decode_raw_events: Final = msgspec.json.Decoder(_RawEnvelope).decode
_decode_event: Final = msgspec.json.Decoder(WireEvent).decode
_decode_snapshot: Final = msgspec.json.Decoder(WireSnapshot).decode
_decode_raw_list: Final = msgspec.json.Decoder(list[Raw]).decode
_decode_members: Final = msgspec.json.Decoder(dict[str, Raw]).decode


def decode_events(body: bytes) -> Sequence[Event | Malformed]:
    """The events of a batch. Raises ``invalid_body`` if the document or envelope is wrong."""
    _check_utf8(body)
    try:
        return _decode_events(body).events
    except _Undecodable:
        texts = _event_texts(body)
        if len(texts) > MAX_BATCH_EVENTS:
            return [_UNJUDGED] * len(texts)
        return [_decode_one(bytes(text)) for text in texts]


def decode_snapshot(body: bytes) -> Snapshot:
    """A snapshot. Raises ``invalid_body`` with everything that is wrong with its shape."""
    _check_utf8(body)
    try:
        return _decode_snapshot(body)
    except _Undecodable:
        item = _judge(body, _SNAPSHOT, Snapshot)
        if isinstance(item, Malformed):
            raise invalid_body(issues_message(item.issues).removeprefix(": ")) from None
        return item


def invalid_body(message: str) -> IngestError:
    """The refusal of a whole body."""
    return IngestError(ErrorCode.INVALID_BODY, message)


def _check_utf8(body: bytes) -> None:
    # The decoder would not look into strings that it skips.
    if not body:
        raise invalid_body("The body is empty; send a JSON object.")
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError as error:
            raise invalid_body(f"The body is not UTF-8 (byte {error.start}).") from None


def _event_texts(body: bytes) -> Sequence[bytes | Raw]:
    with contextlib.suppress(*_Undecodable):
        return _decode_raw_events(body).events
    try:
        events = _decode_members(body).get("events")
    except msgspec.ValidationError:
        raise invalid_body("The body must be a JSON object.") from None
    except _Undecodable as refused:
        return _split_texts(body, refused)
    if events is None:
        raise invalid_body("events: is required")
    try:
        return _decode_raw_list(events)
    except _Undecodable:
        raise invalid_body("events: must be an array") from None


def _split_texts(body: bytes, refused: Exception) -> Sequence[bytes]:
    try:
        texts = split_events(body.decode(), MAX_BATCH_EVENTS)
    except DocumentError as error:
        reason = error if isinstance(refused, RecursionError) else _reason(refused)
        raise invalid_body(f"The body is not valid JSON: {reason}.") from None
    if texts is None:
        raise invalid_body("events: is required and must be an array")
    if len(texts) > MAX_BATCH_EVENTS:
        raise IngestError(
            ErrorCode.BATCH_TOO_LARGE,
            f"events: are too many for one batch; send at most {MAX_BATCH_EVENTS}",
        )
    return [text.encode() for text in texts]


def _reason(error: Exception) -> str:
    # msgspec's own words are good, but for the prefix.
    return str(error).removeprefix("JSON is malformed: ").rstrip(".").lower()


def _decode_one(text: bytes) -> Event | Malformed:
    try:
        return _decode_event(text)
    except _Undecodable:
        return _judge(text, _EVENT, Event)


# --- member by member ------------------------------------------------------------------------

_Decoder = msgspec.json.Decoder[Any]
_STRING: Final = (msgspec.json.Decoder(str), "must be a string")
_NUMBER: Final = (msgspec.json.Decoder(int | float), "must be an integer")


class _Member(NamedTuple):
    """How a member is decoded: by its decoder, as an actor, or kept as JSON text."""

    attribute: str
    decoding: tuple[_Decoder, str] | None = None
    required: bool = False


_ACTOR: Final = {
    "workerId": _Member("worker_id", _STRING),
    "externalId": _Member("external_id", _STRING),
    "email": _Member("email", _STRING),
    "displayName": _Member("display_name", _STRING),
}
_COMMON: Final = {
    "actor": _Member("actor"),
    "timestamp": _Member("timestamp", _STRING),
    "metadata": _Member("metadata"),
}
_EVENT: Final = _COMMON | {
    "eventType": _Member("event_type", _STRING, required=True),
    "category": _Member("category", _STRING, required=True),
    "duration": _Member("duration", _NUMBER),
}
_SNAPSHOT: Final = _COMMON | {
    "snapshotType": _Member("snapshot_type", _STRING, required=True),
    "metrics": _Member("metrics", required=True),
}


def _judge(text: bytes, known: dict[str, _Member], build: type[_Item]) -> _Item | Malformed:
    issues: list[str] = []
    fields = _fields(text, known, "", issues)
    return Malformed(tuple(issues), text) if issues else build(**fields)


def _fields(text: bytes, known: dict[str, _Member], path: str, issues: list[str]) -> dict[str, Any]:
    """An object's known members, of duplicates the last; what is wrong is added to ``issues``."""
    ignored: list[tuple[str, Raw]] = []
    try:
        members = _decode_members(text)
    except msgspec.ValidationError:
        issues.append(f"{path}: must be an object")
        return {}
    except _Undecodable:
        split = _split_members(text)
        if split is None:
            issues.append(f"{path}: must be an object")
            return {}
        members = dict(split)
        ignored = [(name, raw) for name, raw in split if raw is not members[name]]
    fields: dict[str, Any] = {}
    inside = f"{path}." if path else ""
    for name, raw in members.items():
        member = known.get(name)
        if member is None:
            ignored.append((name, raw))
        elif member.attribute == "actor":
            fields["actor"] = Actor(**_fields(bytes(raw), _ACTOR, "actor", issues))
        elif member.decoding is None:
            fields[member.attribute] = bytes(raw)
        else:
            decoder, wanted = member.decoding
            try:
                fields[member.attribute] = decoder.decode(raw)
            except _Undecodable:
                issues.append(f"{inside}{name}: {_storable_problem(bytes(raw)) or wanted}")
    if ignored and (problem := _ignored_problem(ignored)):
        issues.append(f"{path}: a member that is ignored {problem}")
    issues += [
        f"{inside}{name}: is required"
        for name, member in known.items()
        if member.required and name not in members
    ]
    return fields


def _storable_problem(text: bytes) -> str | None:
    try:
        json_text.decode(text)
    except ValueError as error:
        return str(error)
    return None


def _ignored_problem(ignored: list[tuple[str, Raw]]) -> str | None:
    # Unknown members and all but the last of duplicates are ignored, but U+0000 and the like spoil
    # an event wherever they stand. All are looked at together: there may be a hundred thousand.
    try:
        fields.storable_text("".join([name for name, _ in ignored]))
    except ValueError as error:
        return str(error)
    return _storable_problem(b"[%b]" % b",".join([bytes(raw) for _, raw in ignored]))


def _split_members(text: bytes) -> list[tuple[str, Raw]] | None:
    try:
        split = split_members(text.decode())
    except DocumentError as error:
        raise invalid_body(f"The body is not valid JSON: {error}") from None
    if split is None:
        return None
    return [(name, Raw(value.encode())) for name, value in split]
