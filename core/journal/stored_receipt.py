"""Stored receipts: the first request under an idempotency key is answered again, word for word.

A receipt does not keep the bytes of the answer. It keeps the few dozen bytes that an equal request
lacks to be answered equally, over either protocol (docs/contract.md section 7).
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import msgspec

from core import limits
from core.error_codes import ErrorCode
from core.errors import IngestError
from core.models import (
    AcceptedEvent,
    Caller,
    Endpoint,
    Event,
    Events,
    Receipt,
    Rejection,
    Snapshot,
    SnapshotReceipt,
    Worker,
)
from core.rules import fields


class Scope(msgspec.Struct, frozen=True, gc=False, cache_hash=True):
    """The scope within which an idempotency key is unique."""

    organization_id: UUID
    key_id: UUID
    endpoint: Endpoint
    idempotency_key: str


class Claim(msgspec.Struct):
    """The wish of a request to be the first of its scope.

    ``fingerprint``: of the request (core/rules/fingerprint.py), once it is judged.
    """

    scope: Scope
    fingerprint: bytes = b""

    @classmethod
    def of(cls, caller: Caller, endpoint: Endpoint, key: str | None) -> Claim | None:
        """The claim of a request with an idempotency key, if it has one.

        Raises ``invalid_body`` if the key is not 1 to 200 storable characters.
        """
        if key is None:
            return None
        problems = fields.issue("Idempotency-Key", _key_text, key)
        if problems:
            raise IngestError(ErrorCode.INVALID_BODY, problems[0])
        return cls(Scope(caller.organization_id, caller.key_id, endpoint, key))


class StoredReceipt(msgspec.Struct, frozen=True, omit_defaults=True):
    """The kept part of an answer. ``worker``: of snapshots only."""

    request_id: str
    received_us: int
    rejected: Sequence[Rejection] = ()
    worker: Worker | None = None


def _key_text(key: str) -> str:
    return fields.text(key, limits.MAX_IDEMPOTENCY_KEY_CHARACTERS)


def other_body() -> IngestError:
    """The answer to a used key with another body: never a replay of an answer to other data."""
    return IngestError(
        ErrorCode.INVALID_BODY,
        "Idempotency-Key: was already used with a different body; use a new key for new data",
    )


def replay_events(stored: StoredReceipt, events: Events) -> Receipt:
    """The receipt of the first request, rebuilt from an equal request's events."""
    refused = {rejection.index for rejection in stored.rejected}
    echoes = [
        AcceptedEvent(
            event.event_type,
            stored.received_us if event.timestamp is None else fields.moment(event.timestamp)[1],
        )
        for index, event in enumerate(events)
        if index not in refused and isinstance(event, Event)
    ]
    return Receipt(stored.request_id, len(echoes), echoes, stored.rejected, replayed=True)


def replay_snapshot(stored: StoredReceipt, snapshot: Snapshot) -> SnapshotReceipt:
    """The receipt of the first request, as :func:`replay_events`."""
    assert stored.worker is not None
    return SnapshotReceipt(stored.request_id, snapshot.snapshot_type, stored.worker, replayed=True)
