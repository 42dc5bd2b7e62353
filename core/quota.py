"""The monthly quota: exact under any number of writers and replicas (contract section 8)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Final, NamedTuple
from uuid import UUID

from core.statements import Call, Statement, as_records
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
_CHARGE: Final = Statement(
    "charge_quota",
    "json",
    """
INSERT INTO quota_usage AS account (organization_id, month, used, granted)
SELECT o.id, w.month, fits, fits
FROM json_to_recordset($1) AS w (organization_id uuid, month date, wanted bigint)
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
    pg_current_xact_id()
""",
)

_REFUND: Final = Statement(
    "refund_quota",
    "json",
    """
UPDATE quota_usage SET used = used - unused
FROM json_to_recordset($1) AS refund (organization_id uuid, month date, unused bigint)
WHERE quota_usage.organization_id = refund.organization_id
    AND quota_usage.month = refund.month
""",
)


def account(organization_id: UUID, received_us: int) -> Account:
    """The account that pays for an event received at that moment."""
    return Account(organization_id, month_start(received_us).date())


def charge(wanted: Mapping[Account, int]) -> Call | None:
    """Charge each account up to what fits its quota, and lock it; 0 only asks.

    :func:`granted` tells what fitted.
    """
    rows = [(*account, wanted[account]) for account in sorted(wanted)]
    return Call(_CHARGE, as_records((*Account._fields, "wanted"), rows)) if rows else None


def granted(call: Call | None) -> tuple[dict[Account, Grant], str | None]:
    """What each account was charged, and the transaction's id.

    That tells after a lost connection whether the transaction committed.
    """
    grants: dict[Account, Grant] = {}
    transaction_id = None
    for organization, month, fits, left, writer in call.rows if call else ():
        transaction_id = writer
        grants[Account(UUID(organization), date.fromisoformat(month))] = Grant(
            int(fits), None if left is None else max(int(left), 0)
        )
    return grants, transaction_id


def refund(unused: Mapping[Account, int]) -> Call | None:
    """Give back what was charged but not used, in the same transaction."""
    rows = [(*account, events) for account, events in unused.items()]
    return Call(_REFUND, as_records((*Account._fields, "unused"), rows)) if rows else None
