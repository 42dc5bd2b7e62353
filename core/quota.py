"""The monthly quota: exact under any number of writers and replicas (contract section 8)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Final, NamedTuple
from uuid import UUID

from core.database import Connection, as_records
from core.timestamps import month_start


class Account(NamedTuple):
    """What is charged: one organization's calendar month (UTC). Sorts, for a fixed lock order."""

    organization_id: UUID
    month: date


class Grant(NamedTuple):
    """``granted`` of the wanted events fit; ``left`` fit after them (None: no quota)."""

    granted: int
    left: int | None


# One row lock an account is what makes concurrent charges exact; they are taken in the order of
# the account, so that groups never deadlock. The row is created at the month's first event.
_CHARGE: Final = """
INSERT INTO quota_usage AS account (organization_id, month, used, granted)
SELECT o.id, w.month, fits, fits
FROM json_to_recordset(%s) AS w (organization_id uuid, month date, wanted bigint)
JOIN organizations o ON o.id = w.organization_id
CROSS JOIN LATERAL (SELECT LEAST(w.wanted, COALESCE(o.monthly_quota, w.wanted)) AS fits) f
ORDER BY o.id, w.month
ON CONFLICT (organization_id, month) DO UPDATE SET (used, granted) = (
    SELECT account.used + fits, fits
    FROM organizations o
    CROSS JOIN LATERAL (SELECT CASE
        WHEN o.monthly_quota IS NULL THEN excluded.granted
        ELSE LEAST(excluded.granted, GREATEST(o.monthly_quota - account.used, 0))
    END AS fits) f
    WHERE o.id = account.organization_id
)
RETURNING organization_id, month, granted,
    (SELECT o.monthly_quota FROM organizations o WHERE o.id = account.organization_id) - used,
    pg_current_xact_id()::text
"""


def account(organization_id: UUID, received_us: int) -> Account:
    """The account that pays for an event received at that moment."""
    return Account(organization_id, month_start(received_us).date())


async def charge(
    db: Connection, wanted: Mapping[Account, int]
) -> tuple[dict[Account, Grant], str | None]:
    """Charge each account up to what fits its quota, in the caller's transaction; 0 only asks.

    The transaction's id is returned too: it tells after a lost connection whether it committed.
    """
    accounts = sorted(wanted)
    if not accounts:
        return {}, None
    rows = [(*account, wanted[account]) for account in accounts]
    cursor = await db.execute(_CHARGE, (as_records((*Account._fields, "wanted"), rows),))
    grants: dict[Account, Grant] = {}
    transaction_ids: set[str] = set()
    for organization_id, month, granted, left, transaction_id in await cursor.fetchall():
        grants[Account(organization_id, month)] = Grant(
            granted, None if left is None else max(left, 0)
        )
        transaction_ids.add(transaction_id)
    return grants, transaction_ids.pop()
