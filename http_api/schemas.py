"""The wire form of requests and answers: camelCase JSON, and the domain types behind it."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from core import ids
from core.limits import MAX_BATCH_EVENTS
from core.models import Actor, Caller, Event, Receipt, Snapshot, SnapshotReceipt
from http_api.errors import rejected_members

# An absent member stays at this; an explicit null is of the wrong type.
_ABSENT: Any = None


class WireActor(
    Actor, frozen=True, gc=False, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    """An actor, under its JSON names."""

    worker_id: str = _ABSENT
    external_id: str = _ABSENT
    email: str = _ABSENT
    display_name: str = _ABSENT


class WireEvent(
    Event, frozen=True, gc=False, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    """An event, under its JSON names.

    Unknown members are ignored, but not here: they send the event down the slower road of
    :mod:`http_api.decoding`, which also finds in them what no database can store.
    """

    event_type: str
    category: str
    actor: WireActor = _ABSENT
    timestamp: str = _ABSENT
    duration: int | float = _ABSENT
    metadata: Raw = _ABSENT


class WireSnapshot(
    Snapshot, frozen=True, gc=False, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    """A snapshot, under its JSON names."""

    snapshot_type: str
    metrics: Raw
    actor: WireActor = _ABSENT
    timestamp: str = _ABSENT
    metadata: Raw = _ABSENT


class WireAcceptedEvent(msgspec.Struct, rename="camel", gc=False):
    """One line of ``results.accepted``."""

    event_type: str
    timestamp: str


_encode = msgspec.json.Encoder().encode


def render_receipt(receipt: Receipt) -> tuple[int, bytes]:
    """202 if everything was accepted, 207 if some was (contract section 5)."""
    body = {
        "requestId": receipt.request_id,
        "accepted": receipt.accepted,
        "rejected": len(receipt.rejected),
        "batchLimit": MAX_BATCH_EVENTS,
        "results": {
            "accepted": [
                WireAcceptedEvent(one.event_type, one.timestamp) for one in receipt.echoes
            ],
            "rejected": rejected_members(receipt.rejected),
        },
    }
    return (207 if receipt.rejected else 202), _encode(body)


def render_snapshot_receipt(receipt: SnapshotReceipt) -> tuple[int, bytes]:
    """202 and the worker the card belongs to (contract section 6)."""
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
    """200 and the app that the key belongs to."""
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
