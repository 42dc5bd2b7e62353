"""Idempotency keys, as rows in the transaction of the data they protect.

A claim of a key is a row that is inserted together with the events. Another transaction that names
the same key waits for that row, and then replays its receipt (docs/contract.md section 7).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

import msgspec

from core import limits
from core.journal.pending import PendingRequest
from core.journal.stored_receipt import Claim, Scope, StoredReceipt
from core.models import Endpoint
from core.postgres.pipeline import Command, Statement, send, to_json
from core.postgres.sessions import Connection
from core.timestamps import to_datetime

# Requests are judged by their time of receipt. One that waits for its commit, or whose replica's
# clock is behind, must still find a row that was within the window then.
MAX_LATE_SECONDS: Final = 60
MAX_CLEANED_AT_ONCE: Final = 10_000  # rows a statement: short transactions
_WINDOW: Final = timedelta(seconds=limits.IDEMPOTENCY_WINDOW_SECONDS)

# A row whose window has passed is claimed anew. Where an unfinished transaction holds the row,
# the statement waits for it. The rows are counted by what is returned: the command tag on Citus
# counts those that were asked for. ON CONFLICT there takes no parameter and no STABLE function, as
# of a moment less an interval.
_UNLESS_HELD: Final = f"""
ON CONFLICT (organization_id, key_id, endpoint, idempotency_key) DO UPDATE SET
    digest = excluded.digest, receipt = excluded.receipt, created_at = excluded.created_at
WHERE excluded.created_at - earlier.created_at
    >= interval '{limits.IDEMPOTENCY_WINDOW_SECONDS} s'
RETURNING true
"""

_CLAIM: Final = Statement(
    "claim_keys",
    "json",
    f"""
INSERT INTO idempotency_keys AS earlier (
    organization_id, key_id, endpoint, idempotency_key, digest, receipt, created_at)
SELECT organization_id, key_id, endpoint, idempotency_key, decode(digest, 'base64'), receipt,
    timestamptz 'epoch' + created_us * interval '1 microsecond'
FROM json_to_recordset($1) AS claim (
    organization_id uuid, key_id uuid, endpoint text, idempotency_key text,
    digest text, receipt json, created_us bigint)
ORDER BY 1, 2, 3, 4
{_UNLESS_HELD}
""",  # noqa: S608 -- made of constants
)

# Divides by zero, so that all of the transaction fails, if it does not get the key.
_CLAIM_LONE: Final = Statement(
    "claim_key",
    "uuid, uuid, text, text, bytea, json, timestamptz",
    f"""
WITH claimed AS (
    INSERT INTO idempotency_keys AS earlier (
        organization_id, key_id, endpoint, idempotency_key, digest, receipt, created_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
    {_UNLESS_HELD})
SELECT 1 / count(*) FROM claimed
""",  # noqa: S608 -- made of constants
)

_FIND_EARLIER: Final = Statement(
    "find_keys",
    "json",
    """
SELECT organization_id, key_id, endpoint, idempotency_key, digest, receipt
FROM json_to_recordset($1) AS wanted (
    organization_id uuid, key_id uuid, endpoint text, idempotency_key text)
JOIN idempotency_keys AS earlier USING (organization_id, key_id, endpoint, idempotency_key)
WHERE earlier.xmin <> pg_current_xact_id()::xid
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
    """One row of a statement's JSON argument; the members are named as its columns."""

    organization_id: UUID
    key_id: UUID
    endpoint: Endpoint
    idempotency_key: str
    receipt: StoredReceipt
    digest: bytes | None = None
    created_us: int | None = None


def _row(
    scope: Scope,
    receipt: StoredReceipt,
    digest: bytes | None = None,
    created_us: int | None = None,
) -> _Row:
    return _Row(
        scope.organization_id,
        scope.key_id,
        scope.endpoint,
        scope.idempotency_key,
        receipt,
        digest,
        created_us,
    )


def claim_keys(claims: Sequence[tuple[Claim, StoredReceipt]]) -> Command | None:
    """Claim scopes for the transaction; the command returns a row for each that it got.

    :func:`find_earlier` tells of the others. The receipts are the expected ones, so that the usual
    request writes its row once. :func:`store_receipts` corrects one that turned out differently,
    and :func:`release_keys` takes a row back.
    """
    rows = [
        _row(claim.scope, receipt, claim.fingerprint, receipt.received_us)
        for claim, receipt in claims
    ]
    return Command(_CLAIM, to_json(rows)) if rows else None


def claim_lone_key(claim: Claim, receipt: StoredReceipt) -> Command:
    """As :func:`claim_keys`, of one scope; it fails by a division by zero if another holds it."""
    scope = claim.scope
    return Command(
        _CLAIM_LONE,
        str(scope.organization_id),
        str(scope.key_id),
        scope.endpoint,
        scope.idempotency_key,
        f"\\x{claim.fingerprint.hex()}",
        msgspec.json.encode(receipt).decode(),
        str(to_datetime(receipt.received_us)),
    )


async def find_earlier(
    db: Connection, scopes: Sequence[Scope]
) -> dict[Scope, tuple[bytes, StoredReceipt]]:
    """The scopes that earlier requests hold, each with their fingerprint and receipt."""
    command = Command(_FIND_EARLIER, to_json(scopes))
    await send(db, [command])
    return {
        Scope(UUID(organization), UUID(key), endpoint, idempotency_key): (
            bytes.fromhex(digest.removeprefix("\\x")),
            msgspec.json.decode(receipt, type=StoredReceipt),
        )
        for organization, key, endpoint, idempotency_key, digest, receipt in command.rows
    }


def store_receipts(receipts: Sequence[tuple[Scope, StoredReceipt]]) -> Command | None:
    """Correct the receipts of claimed scopes."""
    rows = [_row(scope, receipt) for scope, receipt in receipts]
    return Command(_STORE, to_json(rows)) if rows else None


def release_keys(scopes: Sequence[Scope]) -> Command | None:
    """Give claimed scopes back: their requests wrote nothing and are not remembered."""
    return Command(_RELEASE, to_json(scopes)) if scopes else None


async def clean(db: Connection, now_us: int) -> int:
    """Delete rows whose window is long past, at most a bounded number; returns how many."""
    last = to_datetime(now_us) - _WINDOW - timedelta(seconds=MAX_LATE_SECONDS)
    cursor = await db.execute(_CLEAN, (last, MAX_CLEANED_AT_ONCE))
    return cursor.rowcount


class IdempotencyStep:
    """The idempotency keys of one transaction: claimed together, and settled by the outcomes.

    :meth:`claim` claims the keys of all requests that have one. A request that can write nothing
    claims its key as well, so that it waits for a first request in flight on another replica;
    :meth:`finish` gives such a key back.
    """

    def __init__(self, requests: Sequence[PendingRequest]) -> None:
        self._requests = [
            (request.claim, request) for request in requests if request.claim is not None
        ]
        self._wanted = [(claim, request.stored_receipt()) for claim, request in self._requests]
        # The receipts written with the claims, of the keys that no other transaction holds.
        self._written = {claim.scope: receipt for claim, receipt in self._wanted}
        self._claim: Command | None = None

    def claim(self) -> Command | None:
        """Claim all keys; :attr:`has_all` tells whether they were free."""
        self._claim = claim_keys(self._wanted)
        return self._claim

    def claim_lone(self) -> Command | None:
        """Claim the key of the only request, or have the transaction fail."""
        self._claim = claim_lone_key(*self._wanted[0]) if self._wanted else None
        return self._claim

    @property
    def is_answered(self) -> bool:
        """Whether the database has told which keys it gave; no lock on a key is waited for then."""
        return not self._wanted or (self._claim is not None and self._claim.done)

    @property
    def has_all(self) -> bool:
        """Whether every key was free."""
        return self._claim is None or self._claim.row_count == len(self._written)

    async def answer_others(self, db: Connection) -> None:
        """Answer the requests whose keys earlier requests hold."""
        earlier = await find_earlier(db, list(self._written))
        for claim, request in self._requests:
            if claim.scope in earlier:
                request.answer_from(*earlier[claim.scope])
                del self._written[claim.scope]

    def finish(self) -> list[Command | None]:
        """Correct receipts that turned out differently, and give back keys nothing came of."""
        corrected: list[tuple[Scope, StoredReceipt]] = []
        unused: list[Scope] = []
        for claim, request in self._requests:
            if (written := self._written.get(claim.scope)) is None:
                continue
            if not request.accepted:
                unused.append(claim.scope)
            elif (receipt := request.stored_receipt()) != written:
                corrected.append((claim.scope, receipt))
        return [store_receipts(corrected), release_keys(unused)]
