"""Request bodies to domain types.

The usual body is decoded in one call, and a few counts show that nothing hides in it: an unknown
member or an earlier duplicate could have what no database can store, or be nested too deeply. Any
other body is first looked at as a whole, for its nesting and its syntax, and then event by event
and member by member: what is wrong with one event is said of that event, all of it, and costs its
neighbours nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
from msgspec import Raw

from core import json_scan
from core.error_codes import ErrorCode
from core.errors import IngestError
from core.json_text import MAX_EVENT_DEPTH, MAX_SNAPSHOT_DEPTH, OVERFLOW, UNSTORABLE_TEXT
from core.limits import MAX_BATCH_EVENTS, MAX_JSON_DEPTH
from core.models import Actor, Event, Malformed, Snapshot
from core.rules.fields import issues_message
from core.slices import SLICE_BYTES, InTurns, Sliced, at_once, in_turns
from http_api.schemas import StrictEvent, StrictSnapshot, WireEvent, WireSnapshot

_Undecodable = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"

# Stands for each of too many events: the core refuses the batch by its length alone.
_UNJUDGED: Final = Malformed((), b"")

_Item = TypeVar("_Item", Event, Snapshot)


class _StrictEnvelope(msgspec.Struct):
    events: list[StrictEvent]


class _Envelope(msgspec.Struct):
    events: list[WireEvent]


_decode_strict_events: Final = msgspec.json.Decoder(_StrictEnvelope).decode
_decode_strict_snapshot: Final = msgspec.json.Decoder(StrictSnapshot).decode
_decode_events: Final = msgspec.json.Decoder(_Envelope).decode
_decode_event: Final = msgspec.json.Decoder(WireEvent).decode
_decode_snapshot: Final = msgspec.json.Decoder(WireSnapshot).decode
_decode_raw_list: Final = msgspec.json.Decoder(list[Raw]).decode
_decode_members: Final = msgspec.json.Decoder(dict[str, Raw]).decode


async def decode_events(body: bytes, run: InTurns = in_turns) -> Sequence[Event | Malformed]:
    """The events of a batch. Raises ``invalid_body`` if the document or envelope is wrong.

    ``run`` does what is long.
    """
    body = _checked(body)
    try:
        events = _decode_strict_events(body).events
        texts = [text for event in events if (text := event.metadata)]
        if _says_all(body, texts, body.count(b'"metadata"'), MAX_EVENT_DEPTH):
            return events
    except _Undecodable:
        pass
    return await run(_decode_slowly(body))


async def decode_snapshot(body: bytes, run: InTurns = in_turns) -> Snapshot:
    """A snapshot. Raises ``invalid_body`` with everything that is wrong with its shape.

    ``run`` does what is long.
    """
    body = _checked(body)
    try:
        snapshot = _decode_strict_snapshot(body)
        texts = [text for text in (snapshot.metrics, snapshot.metadata) if text]
        names = body.count(b'"metadata"') + body.count(b'"metrics"')
        if _says_all(body, texts, names, MAX_SNAPSHOT_DEPTH):
            return snapshot
    except _Undecodable:
        pass
    return await run(_decode_snapshot_slowly(body))


def invalid_body(message: str) -> IngestError:
    """The refusal of a whole body."""
    return IngestError(ErrorCode.INVALID_BODY, message)


def _checked(body: bytes) -> bytes:
    """The body without its byte order mark; raises ``invalid_body`` if it is not UTF-8."""
    body = body.removeprefix(_BYTE_ORDER_MARK)
    if not body:
        raise invalid_body("The body is empty; send a JSON object.")
    if not body.isascii():  # the decoder would not look into strings that it skips
        try:
            body.decode()
        except UnicodeDecodeError as error:
            raise invalid_body(f"The body is not UTF-8 (byte {error.start}).") from None
    return body


def _says_all(body: bytes, texts: Sequence[Any], names: int, depth: int) -> bool:
    """Whether a body without unknown members has nothing but what was decoded from it.

    ``texts``: the members that were left as text; ``depth``: the levels that they may have.
    ``names``: the times that their names appear in the body. An earlier duplicate of one of them
    would be one time more; of another member it has nothing to hide if there are no escapes.
    """
    if names > len(texts):
        return False
    if b"\\" in body and body.count(b"\\") > b"".join(texts).count(b"\\"):
        return False
    longest = max(map(len, texts), default=0)
    return longest < 2 * depth or (
        longest < SLICE_BYTES
        and not any(at_once(json_scan.too_deep_at(bytes(text), depth)) for text in texts)
    )


# --- as a whole ------------------------------------------------------------------------------


class _Document(NamedTuple):
    """``text``: the body, without lone surrogates. ``problem``: with storing all of it, if any."""

    text: bytes
    problem: str | None


def _read_document(body: bytes) -> Sliced[_Document]:
    """Look for all that a parser lets pass, or does not tell apart from bad syntax."""
    text = json_scan.without_lone_surrogates(body)
    yield
    too_deep = yield from json_scan.too_deep_at(text, MAX_JSON_DEPTH)
    if too_deep is not None:
        raise invalid_body(
            f"The body is nested deeper than {MAX_JSON_DEPTH} levels (byte {too_deep})."
        )
    yield
    problem = yield from _unstorable(text)
    yield
    return _Document(text, problem)


def _unstorable(text: bytes) -> Sliced[str | None]:
    if json_scan.has_nul(text):
        return UNSTORABLE_TEXT
    return OVERFLOW if (yield from json_scan.overflows(text)) else None


def _decode_slowly(body: bytes) -> Sliced[Sequence[Event | Malformed]]:
    document = yield from _read_document(body)
    if document.problem is None:
        with contextlib.suppress(*_Undecodable):
            return _decode_events(document.text).events
    raws = yield from _event_texts(document.text)
    if len(raws) > MAX_BATCH_EVENTS:
        return [_UNJUDGED] * len(raws)
    events: list[Event | Malformed] = []
    size = 0
    for raw in raws:
        if size >= SLICE_BYTES:
            yield
            size = 0
        event = bytes(raw)
        size += len(event)
        problem = document.problem and (yield from _unstorable(event))
        events.append(_decode_one(event, problem))
    return events


def _event_texts(text: bytes) -> Sliced[Sequence[Raw]]:
    members = _document_members(text)
    if "events" not in members:
        raise invalid_body("events: is required")
    yield
    try:
        return _decode_raw_list(members["events"])
    except msgspec.ValidationError:
        raise invalid_body("events: must be an array") from None


def _document_members(text: bytes) -> dict[str, Raw]:
    try:
        return _decode_members(text)
    except msgspec.ValidationError:
        raise invalid_body("The body must be a JSON object.") from None
    except msgspec.DecodeError as error:
        reason = str(error).removeprefix("JSON is malformed: ").rstrip(".").lower()
        if "byte" not in reason:
            reason = f"it is cut off (byte {len(text)})"
        raise invalid_body(f"The body is not valid JSON: {reason}.") from None


def _decode_one(text: bytes, problem: str | None) -> Event | Malformed:
    if problem is None:
        with contextlib.suppress(*_Undecodable):
            return _decode_event(text)
    return _judge(text, _EVENT, Event, problem)


def _decode_snapshot_slowly(body: bytes) -> Sliced[Snapshot]:
    text, problem = yield from _read_document(body)
    _document_members(text)
    yield
    if problem is None:
        with contextlib.suppress(*_Undecodable):
            return _decode_snapshot(text)
    item = _judge(text, _SNAPSHOT, Snapshot, problem)
    if isinstance(item, Malformed):
        raise invalid_body(issues_message(item.issues).removeprefix(": "))
    return item


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


def _judge(
    text: bytes, known: dict[str, _Member], build: type[_Item], problem: str | None
) -> _Item | Malformed:
    """The item, unless something is wrong with a member or, by ``problem``, with any part of it."""
    issues: list[str] = []
    members = _fields(text, known, "", issues)
    if problem is not None and not any(issue.endswith(problem) for issue in issues):
        issues.insert(0, f": {problem}, not even in members that are ignored")
    return Malformed(tuple(issues), text) if issues else build(**members)


def _fields(text: bytes, known: dict[str, _Member], path: str, issues: list[str]) -> dict[str, Any]:
    """An object's known members, of duplicates the last; what is wrong is added to ``issues``."""
    try:
        members = _decode_members(text)
    except msgspec.ValidationError:
        issues.append(f"{path}: must be an object")
        return {}
    fields: dict[str, Any] = {}
    inside = f"{path}." if path else ""
    for name, member in known.items():
        raw = members.get(name)
        if raw is None:
            if member.required:
                issues.append(f"{inside}{name}: is required")
        elif member.attribute == "actor":
            fields["actor"] = Actor(**_fields(bytes(raw), _ACTOR, "actor", issues))
        elif member.decoding is None:
            fields[member.attribute] = bytes(raw)
        else:
            decoder, wanted = member.decoding
            problem = at_once(_unstorable(bytes(raw)))
            if problem is None:
                try:
                    fields[member.attribute] = decoder.decode(raw)
                    continue
                except msgspec.MsgspecError:
                    problem = wanted
            issues.append(f"{inside}{name}: {problem}")
    return fields
