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

import psycopg
from msgspec import Struct
from psycopg.errors import NotNullViolation

from core.postgres.pipeline import Command, Statement, as_records, to_json
from core.timestamps import US_PER_DAY, month_start

MAX_CACHED_ACCOUNTS: Final = 4_096  # one for all requests of a day is soon found equal to itself


class Account(Struct, frozen=True, order=True, gc=False, cache_hash=True):
    """One organization's calendar month (UTC). Sorts, for a fixed lock order."""

    organization_id: UUID
    month: date


_READ: Final = Statement(
    "read_quota",
    "json",
    """
SELECT wanted.organization_id, wanted.month, o.monthly_quota - COALESCE(account.used, 0),
    pg_current_xact_id()
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
# that transactions do not deadlock. A row is created at the month's first event. A charge that does
# not fit, or whose organization is gone, makes used NULL. The table forbids that, so all of it
# fails. granted is the latest charge, which the update adds; nothing else reads it.
_CHARGE: Final = Statement(
    "charge_quota",
    "json",
    """
INSERT INTO quota_usage AS account (organization_id, month, used, granted)
SELECT w.organization_id, w.month, CASE
        WHEN o.id IS NOT NULL AND w.events <= COALESCE(o.monthly_quota, w.events) THEN w.events
    END, w.events
FROM json_to_recordset($1) AS w (organization_id uuid, month date, events bigint)
LEFT JOIN organizations o ON o.id = w.organization_id
ORDER BY w.organization_id, w.month
ON CONFLICT (organization_id, month) DO UPDATE SET (used, granted) = (
    SELECT CASE WHEN sum <= COALESCE(o.monthly_quota, sum) THEN sum END, excluded.granted
    FROM organizations o CROSS JOIN LATERAL (SELECT account.used + excluded.granted AS sum) s
    WHERE o.id = account.organization_id
)
RETURNING organization_id, month,
    (SELECT o.monthly_quota FROM organizations o WHERE o.id = account.organization_id) - used
""",
)


def account(organization_id: UUID, received_us: int) -> Account:
    """The account that pays for an event received at that moment."""
    return _account(organization_id, received_us // US_PER_DAY)


@lru_cache(MAX_CACHED_ACCOUNTS)
def _account(organization_id: UUID, day: int) -> Account:
    return Account(organization_id, month_start(day * US_PER_DAY).date())


def read(accounts: Iterable[Account]) -> Command | None:
    """Ask how much accounts have left: :func:`left` reads it, and :func:`transaction_id` its id."""
    return _of(_READ, accounts)


def lock(accounts: Iterable[Account]) -> Command | None:
    """Keep all others from charging the accounts until the transaction ends.

    An account that was never charged has no row to lock.
    """
    return _of(_LOCK, accounts)


def _of(statement: Statement, accounts: Iterable[Account]) -> Command | None:
    rows = sorted(accounts)
    return Command(statement, to_json(rows)) if rows else None


def charge(events: Mapping[Account, int]) -> Command | None:
    """Charge accounts with so many events each; :func:`left` tells what they have left then.

    If any has less than that left, it fails with an error that :func:`is_short` recognizes, and
    charges none.
    """
    rows = [(one.organization_id, one.month, events[one]) for one in sorted(events)]
    names = ("organization_id", "month", "events")
    return Command(_CHARGE, as_records(names, rows)) if rows else None


def is_short(error: psycopg.Error) -> bool:
    """Whether a charge failed because too little was left, as others had charged meanwhile."""
    return isinstance(error, NotNullViolation) and error.diag.table_name == "quota_usage"


def left(command: Command | None) -> dict[Account, int | None]:
    """The events left in each account of a :func:`read` or :func:`charge`; None: no quota."""
    return {
        Account(UUID(organization), date.fromisoformat(month)): (
            None if events is None else max(int(events), 0)
        )
        for organization, month, events, *_ in (command.rows if command else ())
    }


def transaction_id(command: Command | None) -> str | None:
    """The id of the transaction that this :func:`read` was part of; None if nothing was read."""
    return str(command.rows[0][-1]) if command and command.rows else None
