"""The monthly quota: exact under any number of writers and replicas (contract section 8).

A transaction reads the rest of each quota at its beginning, and charges its events with its COMMIT.
The charge checks the quota again, and fails if other transactions have left too little meanwhile.
The requests are then written anew, with the accounts locked from the beginning
(core/journal/writer.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from functools import lru_cache
from typing import Final
from uuid import UUID

from msgspec import Struct
from psycopg.errors import DivisionByZero

from core.journal.commit_lock import CommitLock
from core.postgres.pipeline import Command, Statement, as_records, to_json
from core.timestamps import US_PER_DAY, month_start

MAX_CACHED_ACCOUNTS: Final = 4_096  # one for all requests of a day is soon found equal to itself


class Account(Struct, frozen=True, order=True, gc=False, cache_hash=True):
    """One organization's calendar month (UTC). Sorts, for a fixed lock order."""

    organization_id: UUID
    month: date


# In the first round trip, and on the node that writes: there it takes the transaction's lock, too.
_READ: Final = Statement(
    "read_quota",
    "json, bigint",
    """
SELECT wanted.organization_id, wanted.month, o.monthly_quota - COALESCE(account.used, 0),
    o.worker_changes, pg_advisory_xact_lock($2)
FROM json_to_recordset($1) AS wanted (organization_id uuid, month date)
JOIN organizations o ON o.id = wanted.organization_id
LEFT JOIN quota_usage account USING (organization_id, month)
""",
)

_LOCK: Final = Statement(
    "lock_quota",
    "json",
    """
SELECT FROM quota_usage
WHERE (organization_id, month) IN (
    SELECT * FROM json_to_recordset($1) AS wanted (organization_id uuid, month date))
ORDER BY organization_id, month
FOR UPDATE
""",
)

# The lock of an account's row makes concurrent charges exact; rows are locked in sorted order, so
# that transactions do not deadlock. A row is created at the month's first event. granted is the
# latest charge; nothing reads it any more.
_OR_ADD: Final = """
ON CONFLICT (organization_id, month) DO UPDATE SET
    used = account.used + excluded.used, granted = excluded.granted
"""

_CHARGE: Final = Statement(
    "charge_quota",
    "json",
    f"""
INSERT INTO quota_usage AS account (organization_id, month, used, granted)
SELECT organization_id, month, events, events
FROM json_to_recordset($1) AS charged (organization_id uuid, month date, events bigint)
ORDER BY 1, 2
{_OR_ADD}
""",  # noqa: S608 -- made of constants
)

# Divides by zero, so that all of the transaction fails, if an account is charged beyond its quota
# or its organization is gone. A statement of its own, for an INSERT on Citus reads no other table.
_CHECK: Final = Statement(
    "check_quota",
    "json",
    """
SELECT charged.organization_id, charged.month, o.monthly_quota - account.used,
    0 / (o.id IS NOT NULL AND account.used <= COALESCE(o.monthly_quota, account.used))::integer
FROM json_to_recordset($1) AS charged (organization_id uuid, month date)
JOIN quota_usage account USING (organization_id, month)
LEFT JOIN organizations o ON o.id = charged.organization_id
""",
)

# Both in one, and as of the count of changes of workers $4. Not for Citus.
_CHARGE_LONE: Final = Statement(
    "charge_lone_quota",
    "uuid, date, bigint, bigint",
    f"""
WITH charged AS (
    INSERT INTO quota_usage AS account (organization_id, month, used, granted)
    VALUES ($1, $2, $3, $3)
    {_OR_ADD}
    RETURNING organization_id, month, used)
SELECT charged.organization_id, charged.month, o.monthly_quota - charged.used,
    0 / (o.id IS NOT NULL AND charged.used <= COALESCE(o.monthly_quota, charged.used)
        AND o.worker_changes = $4)::integer
FROM charged LEFT JOIN organizations o ON o.id = charged.organization_id
""",  # noqa: S608 -- made of constants
)


def account(organization_id: UUID, received_us: int) -> Account:
    """The account that pays for an event received at that moment."""
    return _account(organization_id, received_us // US_PER_DAY)


@lru_cache(MAX_CACHED_ACCOUNTS)
def _account(organization_id: UUID, day: int) -> Account:
    return Account(organization_id, month_start(day * US_PER_DAY).date())


def read(accounts: Iterable[Account], lock: CommitLock) -> Command:
    """Ask how much accounts have left, which :func:`left` reads, and take the lock.

    It asks for the counts of changes of workers, too, which :func:`worker_changes` reads.
    """
    return Command(_READ, to_json(sorted(accounts)), str(lock.id))


def lock(accounts: Iterable[Account]) -> Command | None:
    """Keep all others from charging the accounts until the transaction ends.

    An account that was never charged has no row to lock.
    """
    rows = sorted(accounts)
    return Command(_LOCK, to_json(rows)) if rows else None


def charge(events: Mapping[Account, int]) -> list[Command]:
    """Charge accounts with so many events each; :func:`left` reads the last of the commands.

    If any has less than that left, it fails as :func:`is_short` tells, and the transaction with it.
    """
    if not events:
        return []
    rows = [(one.organization_id, one.month, events[one]) for one in sorted(events)]
    charged = as_records(("organization_id", "month", "events"), rows)
    return [Command(_CHARGE, charged), Command(_CHECK, charged)]


def charge_lone(of: Account, events: int, worker_changes: int) -> Command:
    """Charge one account; :func:`left` reads the command.

    It fails by a division by zero, and the transaction with it, if less is left, or if that is not
    the count of changes of workers.
    """
    return Command(
        _CHARGE_LONE, str(of.organization_id), str(of.month), str(events), str(worker_changes)
    )


def is_short(command: Command | None) -> bool:
    """Whether a charge failed because too little was left, as others had charged meanwhile.

    ``command``: its last one.
    """
    return command is not None and isinstance(command.error, DivisionByZero)


def worker_changes(command: Command | None) -> dict[UUID, int]:
    """The organizations' counts of changes of workers, of a :func:`read`."""
    return {
        UUID(organization): int(changes)
        for organization, _, _, changes, _ in (command.rows if command else ())
    }


def left(command: Command | None) -> dict[Account, int | None]:
    """The events left in each account of a :func:`read` or :func:`charge`; None: no quota."""
    return {
        Account(UUID(organization), date.fromisoformat(month)): (
            None if events is None else max(int(events), 0)
        )
        for organization, month, events, *_ in (command.rows if command else ())
    }
