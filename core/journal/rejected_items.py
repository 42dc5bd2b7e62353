"""The content of a refused item as JSON, for a service that keeps it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from core.models import Actor, Event, Events, Malformed

_ACTOR_MEMBERS: Final = {
    "workerId": "worker_id",
    "externalId": "external_id",
    "email": "email",
    "displayName": "display_name",
}


def item_json(events: Events) -> Callable[[int], str]:
    """A function that gives the JSON text of the event at an index.

    It has the members that were sent; one that was sent as null is left out.
    """

    def of_index(index: int) -> str:
        [item] = events[index : index + 1]
        if isinstance(item, Malformed):
            return item.content.decode(errors="replace").replace("\0", "\ufffd")
        return msgspec.json.encode(_members(item)).decode()

    return of_index


def _members(event: Event) -> dict[str, Any]:
    members = {
        "eventType": event.event_type,
        "category": event.category,
        "actor": None if event.actor is None else _actor(event.actor),
        "timestamp": event.timestamp,
        "duration": event.duration,
        "metadata": None if event.metadata is None else msgspec.Raw(bytes(event.metadata)),
    }
    return {name: value for name, value in members.items() if value is not None}


def _actor(actor: Actor) -> dict[str, str]:
    members = {name: getattr(actor, attribute) for name, attribute in _ACTOR_MEMBERS.items()}
    return {name: value for name, value in members.items() if value is not None}
