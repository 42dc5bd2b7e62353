"""An organization's month in numbers."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from core import ids
from core.admin import usage
from core.admin.errors import NotFoundError
from core.admin.usage import RejectionCounts
from core.timestamps import from_datetime
from tests.support.tenant import make_tenant, now_us

pytestmark = pytest.mark.anyio

APRIL_US = from_datetime(datetime(2026, 4, 30, 23, 59, 59, tzinfo=UTC))


async def test_the_usage_is_that_of_the_month(database_url: str) -> None:
    tenant = await make_tenant(database_url, monthly_quota=10)
    organization = tenant.organization.id
    for month, used in (("2026-04-01", 7), ("2026-05-01", 2)):
        await tenant.rows(
            "INSERT INTO quota_usage VALUES (%s, %s, %s, %s)", organization, month, used, used
        )
        for code, events, requests in (("invalid_body", 1, used), ("rate_limited", 3, 4)):
            await tenant.rows(
                "INSERT INTO refusals VALUES (%s, %s, %s, %s, %s)",
                *(organization, month, code, events, requests),
            )
    async with await tenant.connect() as db:
        april = await usage.read(db, organization, APRIL_US)
        assert (april.month, april.quota, april.used, april.left) == (date(2026, 4, 1), 10, 7, 3)
        assert list(april.rejected.items()) == [
            ("rate_limited", RejectionCounts(3, 4)),
            ("invalid_body", RejectionCounts(1, 7)),
        ]
        assert (await usage.read(db, organization, APRIL_US + 1_000_000)).used == 2


async def test_a_lowered_quota_leaves_nothing_and_no_quota_has_no_rest(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    async with await tenant.connect() as db:
        unused = await usage.read(db, tenant.organization.id, APRIL_US)
        assert (unused.quota, unused.used, unused.left, unused.rejected) == (None, 0, None, {})
        await tenant.rows(
            "INSERT INTO quota_usage VALUES (%s, '2026-04-01', 7, 7)", tenant.organization.id
        )
        await tenant.update(monthly_quota=5)
        assert (await usage.read(db, tenant.organization.id, APRIL_US)).left == 0


async def test_an_organization_that_is_gone_is_not_found(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    async with await tenant.connect() as db:
        with pytest.raises(NotFoundError):
            await usage.read(db, ids.new(now_us()), APRIL_US)
