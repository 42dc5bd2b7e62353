"""An organization's month in numbers."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from core import ids
from core.admin import usage
from core.admin.errors import NotFoundError
from core.admin.usage import Forecast, RejectionCounts
from core.timestamps import from_datetime
from tests.support.tenant import Tenant, make_tenant, now_us

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


@pytest.mark.parametrize(
    ("quota", "used", "forecast"),
    [
        (None, 0, Forecast(0, None)),
        (0, 0, Forecast(0, date(2026, 4, 11))),
        (1_000, 100, Forecast(300, None)),
        (300, 100, Forecast(300, None)),
        (299, 100, Forecast(300, date(2026, 4, 30))),
        (150, 100, Forecast(300, date(2026, 4, 16))),
        (100, 100, Forecast(300, date(2026, 4, 11))),
        (50, 100, Forecast(300, date(2026, 4, 11))),
        (10**15, 1, Forecast(3, None)),
    ],
)
async def test_the_month_is_foretold_by_its_part_so_far(
    database_url: str, quota: int | None, used: int, forecast: Forecast
) -> None:
    tenant = await make_tenant(database_url, monthly_quota=quota)
    await use(tenant, datetime(2026, 1, 1, tzinfo=UTC), used)
    async with await tenant.connect() as db:
        now = from_datetime(datetime(2026, 4, 11, tzinfo=UTC))
        assert (await usage.read(db, tenant.organization.id, now)).forecast == forecast


async def test_it_is_foretold_from_the_making_of_the_organization_on_after_a_day(
    database_url: str,
) -> None:
    tenant = await make_tenant(database_url, monthly_quota=20)
    made = datetime(2026, 4, 21, tzinfo=UTC)
    await use(tenant, made, 10)
    async with await tenant.connect() as db:

        async def after(time: timedelta) -> Forecast | None:
            read = await usage.read(db, tenant.organization.id, from_datetime(made + time))
            return read.forecast

        assert await after(timedelta(hours=23)) is None
        assert await after(timedelta(days=2)) == Forecast(50, date(2026, 4, 25))
        assert await after(timedelta(days=10, hours=23)) is None  # another month


async def use(tenant: Tenant, made: datetime, used: int) -> None:
    """An organization that was made then, and has used so much in April."""
    its_id = tenant.organization.id
    await tenant.rows("UPDATE organizations SET created_at = %s WHERE id = %s", made, its_id)
    await tenant.rows("INSERT INTO quota_usage VALUES (%s, '2026-04-01', %s, 0)", its_id, used)
