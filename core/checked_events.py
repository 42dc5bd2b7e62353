"""A batch of events, judged by the rules that need no database (contract section 5).

The usual batch, of which nothing is wrong, is judged member by member; any other, or a small one,
event by event, each on the fast road that stops at its first broken rule. Only an event that broke
one is then asked for all that is wrong with it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Container, Sequence
from typing import Any, Final

from msgspec import Raw

from core import json_objects, rows, timestamps
from core.errors import ErrorCode
from core.events import AcceptedEvent, Actor, Caller, Event, Malformed, Rejection, WorkerName
from core.validation import (
    NO_ACTOR,
    category,
    duration,
    event_issues,
    instant,
    issues_message,
    known_name,
    moment,
    type_name,
)

MIN_TOGETHER: Final = 16  # what it takes to look at columns is more than fewer events take


class CheckedEvents:
    """What is left of a batch after the rules: parallel lists, one item per passed event.

    ``slots`` says whose event it is, as an index into ``names`` and ``actors``, which have each
    distinct actor once. ``echoes`` are empty if nobody asked for them.
    """

    __slots__ = ("actors", "echoes", "indexes", "names", "rejected", "slots", "tails")

    def __init__(self) -> None:
        self.indexes: Sequence[int] = ()
        self.slots: list[int] = []
        self.names: list[WorkerName] = []
        self.actors: list[Actor] = []
        self.tails: list[bytes] = []
        self.echoes: list[AcceptedEvent] = []
        self.rejected: list[Rejection] = []


def check_events(
    caller: Caller, events: Sequence[Event | Malformed], received_us: int, *, echo: bool = True
) -> CheckedEvents:
    """Judge every event of a batch on its own, in the order of contract section 5.

    What passes is packed into the tail of its row; what does not is a rejection. Whether its
    worker exists and the quota suffices is for the database. ``received_us``: microseconds since
    the epoch. ``echo``: somebody wants the ``echoes``.
    """
    if len(events) >= MIN_TOGETHER:
        with contextlib.suppress(_NeedsCloserLook, ValueError, AttributeError):
            return _check_together(caller, events, received_us, echo)
    return _check_each(caller, events, received_us, echo)


def _check_together(
    caller: Caller, events: Sequence[Any], received_us: int, echo: bool
) -> CheckedEvents:
    """Judge a batch of which nothing is wrong, which most are: member by member, not one by one.

    Raises whatever it meets if anything is wrong: ValueError of a rule, AttributeError of what is
    not an event, _NeedsCloserLook.
    """
    types, categories, actors, moments, durations, metadata = zip(
        *[(e.event_type, e.category, e.actor, e.timestamp, e.duration, e.metadata) for e in events],
        strict=True,
    )
    checked = CheckedEvents()
    checked.indexes = range(len(events))

    pairs = list(zip(types, categories, strict=True))
    kinds = {pair: _kind(*pair, caller.allowed_event_types) for pair in set(pairs)}
    people = list(dict.fromkeys(actors))
    names = [None if actor is None else known_name(actor, caller) for actor in people]
    checked.names = [name for name in names if name is not None]
    if len(checked.names) < len(names) or not all(kinds.values()):
        raise _NeedsCloserLook
    checked.actors = people
    slots = {actor: slot for slot, actor in enumerate(people)}
    checked.slots = list(map(slots.__getitem__, actors))

    texts = list(metadata)
    if Raw in set(map(type, metadata)):
        texts = [None if text is None else bytes(text) for text in metadata]
    if not json_objects.are_plain(texts):
        texts = [None if text is None else json_objects.storable(text) for text in texts]
    seconds = {given: None if given is None else duration(given) for given in set(durations)}
    if echo:
        received = (received_us, timestamps.format_us(received_us))
        both = [received if given is None else moment(given) for given in moments]
        instants = [us for us, _ in both]
        checked.echoes = [
            AcceptedEvent(event_type, said)
            for event_type, (_, said) in zip(types, both, strict=True)
        ]
    elif set(map(type, moments)) == {int}:
        for extreme in (min(moments), max(moments)):
            instant(extreme)
        instants = list(moments)
    else:
        instants = [received_us if given is None else instant(given) for given in moments]
    columns = (map(kinds.__getitem__, pairs), instants, map(seconds.__getitem__, durations), texts)
    checked.tails = list(map(rows.tail, *columns))
    return checked


class _NeedsCloserLook(Exception):
    """Not everything in a batch is fine, or usual."""


def _check_each(
    caller: Caller, events: Sequence[Event | Malformed], received_us: int, echo: bool
) -> CheckedEvents:
    checked = CheckedEvents()
    tails, slots, echoes, rejected = checked.tails, checked.slots, checked.echoes, checked.rejected
    received_echo = timestamps.format_us(received_us)
    kinds: dict[tuple[str, str], bytes] = {}  # empty: of a type that is not allowed
    known: dict[Actor, int] = {}
    texts = [
        None if isinstance(event, Malformed) or event.metadata is None else bytes(event.metadata)
        for event in events
    ]
    plain = json_objects.are_plain(texts)
    for event, metadata in zip(events, texts, strict=True):
        if isinstance(event, Malformed):
            _reject(checked, event.issues)
            continue
        actor, pair, said = event.actor, (event.event_type, event.category), received_echo
        slot = its_name = None
        try:
            if (kind := kinds.get(pair)) is None:
                kind = kinds[pair] = _kind(*pair, caller.allowed_event_types)
            if event.timestamp is None:
                us = received_us
            elif echo:
                us, said = moment(event.timestamp)
            else:
                us = instant(event.timestamp)
            seconds = None if event.duration is None else duration(event.duration)
            if metadata is not None and not plain:
                metadata = json_objects.storable(metadata)
            if actor is not None and (slot := known.get(actor)) is None:
                its_name = known_name(actor, caller)
        except ValueError:
            _reject(checked, event_issues(event))
            continue
        if actor is None or (slot is None and its_name is None):
            _reject(checked, (NO_ACTOR,), ErrorCode.MISSING_ACTOR)
        elif not kind:
            issue = f"eventType: '{pair[0]}' is not whitelisted for this app"
            _reject(checked, (issue,), ErrorCode.FORBIDDEN_EVENT_TYPE)
        else:
            if slot is None:
                assert its_name is not None
                slot = known[actor] = len(known)
                checked.names.append(its_name)
                checked.actors.append(actor)
            slots.append(slot)
            tails.append(rows.tail(kind, us, seconds, metadata))
            if echo:
                echoes.append(AcceptedEvent(pair[0], said))
    checked.indexes = range(len(events))
    if rejected:
        gone = {one.index for one in rejected}
        checked.indexes = [index for index in checked.indexes if index not in gone]
    return checked


def _kind(event_type: str, category_name: str, allowed: Container[str]) -> bytes:
    kind = rows.kind(type_name(event_type), category(category_name))
    return kind if event_type in allowed else b""


def _reject(
    checked: CheckedEvents, issues: Sequence[str], code: ErrorCode = ErrorCode.INVALID_BODY
) -> None:
    """Refuse the event that comes after all that are judged."""
    index = len(checked.tails) + len(checked.rejected)
    checked.rejected.append(Rejection(index, code, issues_message(issues, f"events[{index}]")))
