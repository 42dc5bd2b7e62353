"""The monthly quota: exact under any number of writers and replicas (contract section 8)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from functools import lru_cache
from typing import Final
from uuid import UUID

import psycopg
from msgspec import Struct
from psycopg.errors import NotNullViolation

from core.statements import Call, Statement, as_records, to_json
from core.timestamps import month_start


class Account(Struct, frozen=True, order=True, gc=False, cache_hash=True):
    """What is charged: one organization's calendar month (UTC). Sorts, for a fixed lock order."""

    organization_id: UUID
    month: date


MAX_CACHED_ACCOUNTS: Final = 1_000
# Groups look them up all the time, and what is the same object need not be compared.
_account: Final = lru_cache(MAX_CACHED_ACCOUNTS)(Account)

_LEFT: Final = Statement(
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

# One row lock an account is what makes concurrent charges exact; they are taken in the order of
# the account, so that groups never deadlock. The row is created at the month's first event. What
# does not fit, or has no organization any more, becomes the NULL that used must not be.
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
    return _account(organization_id, month_start(received_us).date())


def read(accounts: Iterable[Account]) -> Call | None:
    """Ask how much is left to accounts, as of now; :func:`left` and the transaction's id tell."""
    return _of(_LEFT, accounts)


def lock(accounts: Iterable[Account]) -> Call | None:
    """Have nobody else charge the accounts until the transaction ends."""
    return _of(_LOCK, accounts)


def _of(statement: Statement, accounts: Iterable[Account]) -> Call | None:
    rows = sorted(accounts)
    return Call(statement, to_json(rows)) if rows else None


def charge(events: Mapping[Account, int]) -> Call | None:
    """Charge accounts, all of it or not at all; :func:`left` tells what is left after that.

    Fails with an error that :func:`is_short` recognizes if one has less left than that.
    """
    rows = [(one.organization_id, one.month, events[one]) for one in sorted(events)]
    names = ("organization_id", "month", "events")
    return Call(_CHARGE, as_records(names, rows)) if rows else None


def is_short(error: psycopg.Error) -> bool:
    """Whether a charge failed because others have charged the account meanwhile."""
    return isinstance(error, NotNullViolation) and error.diag.table_name == "quota_usage"


def left(call: Call | None) -> dict[Account, int | None]:
    """How many events each account has left; None: it has no quota."""
    return {
        _account(UUID(organization), date.fromisoformat(month)): (
            None if events is None else max(int(events), 0)
        )
        for organization, month, events, *_ in (call.rows if call else ())
    }


def transaction_id(call: Call | None) -> str | None:
    """The id of the transaction that :func:`read` was part of.

    That tells after a lost connection whether the transaction committed.
    """
    return str(call.rows[0][-1]) if call and call.rows else None
