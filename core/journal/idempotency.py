"""Idempotency keys: the first request that wrote something is answered again, word for word.

What is stored is not the answer's bytes but what an equal request needs to be answered equally: a
few dozen bytes, the same for both protocols. A claim is a row inserted in the transaction of the
events it protects; another group that names the same key waits for that row and then replays it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final, NamedTuple
from uuid import UUID

import msgspec

from core import limits
from core.error_codes import ErrorCode
from core.errors import IngestError
from core.models import (
    AcceptedEvent,
    Endpoint,
    Event,
    Malformed,
    Receipt,
    Rejection,
    Snapshot,
    SnapshotReceipt,
    Worker,
)
from core.postgres.pipeline import Command, Statement, send, to_json
from core.postgres.sessions import Connection
from core.rules import fields
from core.timestamps import format_us, to_datetime

# Requests are judged by their time of receipt. One that waits for its commit, or whose replica's
# clock is behind, must still find a row that was within the window then.
MAX_LATE_SECONDS: Final = 60
MAX_CLEANED_AT_ONCE: Final = 10_000  # rows a statement: short transactions


class Scope(msgspec.Struct, frozen=True, gc=False, cache_hash=True):
    """Where an idempotency key is unique."""

    organization_id: UUID
    key_id: UUID
    endpoint: Endpoint
    idempotency_key: str


class Claim(NamedTuple):
    """A request's wish to be the first of its scope; ``digest`` is of what it asks."""

    scope: Scope
    digest: bytes


class StoredReceipt(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is kept of an answer. ``worker`` only for snapshots."""

    request_id: str
    received_us: int
    rejected: Sequence[Rejection] = ()
    worker: Worker | None = None


def check_key(key: str) -> None:
    """Raises ``invalid_body`` if the key is not 1 to 200 storable characters."""
    problems = fields.issue("Idempotency-Key", _key_text, key)
    if problems:
        raise IngestError(ErrorCode.INVALID_BODY, problems[0])


def _key_text(key: str) -> str:
    return fields.text(key, limits.MAX_IDEMPOTENCY_KEY_CHARACTERS)


# A row whose window has passed is claimed anew. Where an unfinished transaction holds the row,
# the statement waits for it.
_CLAIM: Final = Statement(
    "claim_keys",
    "json, interval",
    """
INSERT INTO idempotency_keys AS held (
    organization_id, key_id, endpoint, idempotency_key, digest, receipt, created_at)
SELECT organization_id, key_id, endpoint, idempotency_key, decode(digest, 'base64'), receipt,
    timestamptz 'epoch' + created_us * interval '1 microsecond'
FROM json_to_recordset($1) AS claim (
    organization_id uuid, key_id uuid, endpoint text, idempotency_key text,
    digest text, receipt json, created_us bigint)
ORDER BY 1, 2, 3, 4
ON CONFLICT (organization_id, key_id, endpoint, idempotency_key) DO UPDATE SET
    digest = excluded.digest, receipt = excluded.receipt, created_at = excluded.created_at
WHERE held.created_at <= excluded.created_at - $2
""",
)

_HELD_BY_OTHERS: Final = Statement(
    "find_keys",
    "json",
    """
SELECT organization_id, key_id, endpoint, idempotency_key, digest, receipt
FROM json_to_recordset($1) AS wanted (
    organization_id uuid, key_id uuid, endpoint text, idempotency_key text)
JOIN idempotency_keys AS held USING (organization_id, key_id, endpoint, idempotency_key)
WHERE held.xmin <> pg_current_xact_id()::xid
""",
)

_STORE: Final = Statement(
    "store_receipts",
    "json",
    """
UPDATE idempotency_keys SET receipt = final.receipt
FROM json_to_recordset($1) AS final (
    organization_id uuid, key_id uuid, endpoint text, idempotency_key text, receipt json)
WHERE (idempotency_keys.organization_id, idempotency_keys.key_id, idempotency_keys.endpoint,
       idempotency_keys.idempotency_key)
    = (final.organization_id, final.key_id, final.endpoint, final.idempotency_key)
""",
)

_RELEASE: Final = Statement(
    "release_keys",
    "json",
    """
DELETE FROM idempotency_keys USING json_to_recordset($1) AS unused (
    organization_id uuid, key_id uuid, endpoint text, idempotency_key text)
WHERE (idempotency_keys.organization_id, idempotency_keys.key_id, idempotency_keys.endpoint,
       idempotency_keys.idempotency_key)
    = (unused.organization_id, unused.key_id, unused.endpoint, unused.idempotency_key)
""",
)

_CLEAN: Final = """
DELETE FROM idempotency_keys WHERE ctid IN (
    SELECT ctid FROM idempotency_keys WHERE created_at <= %s LIMIT %s FOR UPDATE SKIP LOCKED)
"""


class _Row(msgspec.Struct, frozen=True, gc=False):
    """What the statements read, by these names."""

    organization_id: UUID
    key_id: UUID
    endpoint: Endpoint
    idempotency_key: str
    receipt: StoredReceipt
    digest: bytes | None = None
    created_us: int | None = None


_WINDOW: Final = timedelta(seconds=limits.IDEMPOTENCY_WINDOW_SECONDS)


def claim(claims: Sequence[tuple[Claim, StoredReceipt]]) -> Command | None:
    """Claim scopes in the transaction; the call counts those that it got.

    :func:`held` tells of the others. The receipts are the expected ones, so that the usual request
    writes its row once; what turns out otherwise is corrected by :func:`store` or taken back by
    :func:`release`.
    """
    rows = [
        _Row(
            wish.scope.organization_id,
            wish.scope.key_id,
            wish.scope.endpoint,
            wish.scope.idempotency_key,
            receipt,
            wish.digest,
            receipt.received_us,
        )
        for wish, receipt in claims
    ]
    window = f"{limits.IDEMPOTENCY_WINDOW_SECONDS} s"
    return Command(_CLAIM, to_json(rows), window) if rows else None


async def held(db: Connection, scopes: Sequence[Scope]) -> dict[Scope, tuple[bytes, StoredReceipt]]:
    """Which of these scopes the transaction could not claim, and the digest and receipt of each."""
    call = Command(_HELD_BY_OTHERS, to_json(scopes))
    await send(db, [call])
    return {
        Scope(UUID(organization), UUID(key), endpoint, idempotency_key): (
            bytes.fromhex(digest.removeprefix("\\x")),
            msgspec.json.decode(receipt, type=StoredReceipt),
        )
        for organization, key, endpoint, idempotency_key, digest, receipt in call.rows
    }


def store(receipts: Sequence[tuple[Scope, StoredReceipt]]) -> Command | None:
    """Correct the receipts of claimed scopes."""
    rows = [
        _Row(one.organization_id, one.key_id, one.endpoint, one.idempotency_key, receipt)
        for one, receipt in receipts
    ]
    return Command(_STORE, to_json(rows)) if rows else None


def release(scopes: Sequence[Scope]) -> Command | None:
    """Give claimed scopes back: their requests wrote nothing and are not remembered."""
    return Command(_RELEASE, to_json(scopes)) if scopes else None


async def clean(db: Connection, now_us: int) -> int:
    """Delete rows whose window is long past, at most a bounded number; returns how many."""
    last = to_datetime(now_us) - _WINDOW - timedelta(seconds=MAX_LATE_SECONDS)
    cursor = await db.execute(_CLEAN, (last, MAX_CLEANED_AT_ONCE))
    return cursor.rowcount


def differs() -> IngestError:
    """The answer to a used key with another body: never a replay of an answer to other data."""
    return IngestError(
        ErrorCode.INVALID_BODY,
        "Idempotency-Key: was already used with a different body; use a new key for new data",
    )


def replay_events(stored: StoredReceipt, events: Sequence[Event | Malformed]) -> Receipt:
    """The receipt of the first request, rebuilt from an equal request's events."""
    refused = {rejection.index for rejection in stored.rejected}
    received = format_us(stored.received_us)
    echoes = [
        AcceptedEvent(
            event.event_type,
            received if event.timestamp is None else fields.moment(event.timestamp)[1],
        )
        for index, event in enumerate(events)
        if index not in refused and isinstance(event, Event)
    ]
    return Receipt(stored.request_id, len(echoes), echoes, stored.rejected, replayed=True)


def replay_snapshot(stored: StoredReceipt, snapshot: Snapshot) -> SnapshotReceipt:
    """The receipt of the first request, as :func:`replay_events`."""
    assert stored.worker is not None
    return SnapshotReceipt(stored.request_id, snapshot.snapshot_type, stored.worker, replayed=True)
