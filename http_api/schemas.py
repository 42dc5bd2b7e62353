"""The JSON of requests and answers, in camelCase, and its conversion from and to domain types."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any

import msgspec
from msgspec import Raw

from core import ids
from core.limits import MAX_BATCH_EVENTS
from core.models import Actor, Caller, Event, Receipt, Snapshot, SnapshotReceipt
from core.timestamps import format_us
from http_api.errors import rejected_members

# The value of an absent member; an explicit null is of a wrong type.
_ABSENT: Any = None


# Of a larger or smaller integer msgspec would make one of any length.
_Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class WireActor(Actor, frozen=True, gc=False, kw_only=True, rename="camel"):
    """An actor, under its JSON names. Unknown members are ignored."""

    worker_id: str = _ABSENT
    external_id: str = _ABSENT
    email: str = _ABSENT
    display_name: str = _ABSENT


class WireEvent(Event, frozen=True, gc=False, kw_only=True, rename="camel"):
    """An event, under its JSON names, with a duration that is written as an integer.

    A fraction is left to :mod:`http_api.decoding`: msgspec can be very slow to convert it.
    """

    event_type: str
    category: str
    actor: WireActor = _ABSENT
    timestamp: str = _ABSENT
    duration: _Int64 = _ABSENT
    metadata: Raw = _ABSENT


class WireSnapshot(Snapshot, frozen=True, gc=False, kw_only=True, rename="camel"):
    """A snapshot, under its JSON names."""

    snapshot_type: str
    metrics: Raw
    actor: WireActor = _ABSENT
    timestamp: str = _ABSENT
    metadata: Raw = _ABSENT


class StrictActor(WireActor, frozen=True, gc=False, kw_only=True, forbid_unknown_fields=True):
    """An actor without unknown members."""


class StrictEvent(WireEvent, frozen=True, gc=False, kw_only=True, forbid_unknown_fields=True):
    """An event without unknown members, in which something unstorable could hide."""

    actor: StrictActor = _ABSENT


class StrictSnapshot(WireSnapshot, frozen=True, gc=False, kw_only=True, forbid_unknown_fields=True):
    """A snapshot without unknown members."""

    actor: StrictActor = _ABSENT


class WireAcceptedEvent(msgspec.Struct, rename="camel", gc=False):
    """One line of ``results.accepted``."""

    event_type: str
    timestamp: str


_encode = msgspec.json.Encoder().encode
_format_us = lru_cache(1)(format_us)  # events without a timestamp have that of their receipt


def render_receipt(receipt: Receipt) -> tuple[int, bytes]:
    """Return the status, 202 or with rejected events 207, and the body (contract section 5)."""
    body = {
        "requestId": receipt.request_id,
        "accepted": receipt.accepted,
        "rejected": len(receipt.rejected),
        "batchLimit": MAX_BATCH_EVENTS,
        "results": {
            "accepted": [
                WireAcceptedEvent(
                    one.event_type, moment if isinstance(moment, str) else _format_us(moment)
                )
                for one in receipt.echoes
                for moment in (one.timestamp,)
            ],
            "rejected": rejected_members(receipt.rejected),
        },
    }
    return (207 if receipt.rejected else 202), _encode(body)


def render_snapshot_receipt(receipt: SnapshotReceipt) -> tuple[int, bytes]:
    """Return 202 and a body with the worker whom the card is about (contract section 6)."""
    worker = receipt.worker
    body = {
        "requestId": receipt.request_id,
        "ok": True,
        "snapshotType": receipt.snapshot_type,
        "worker": {
            "id": ids.text(ids.WORKER, worker.id),
            "displayName": worker.display_name,
        },
    }
    return 202, _encode(body)


def render_ping(caller: Caller) -> tuple[int, bytes]:
    """Return 200 and a body with the app that the key belongs to."""
    body = {
        "ok": True,
        "organizationId": ids.text(ids.ORGANIZATION, caller.organization_id),
        "app": {
            "id": ids.text(ids.APP, caller.app_id),
            "slug": caller.app_slug,
            "name": caller.app_name,
        },
    }
    return 200, _encode(body)
