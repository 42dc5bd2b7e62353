"""The traffic of the last minutes by app."""

from __future__ import annotations

import pytest

from core.admin import traffic
from core.admin.errors import InvalidValueError
from core.admin.traffic import AppMinute
from core.journal.traffic import KEPT_MINUTES
from core.timestamps import US_PER_MINUTE, to_datetime
from tests.support.tenant import Tenant, make_tenant, now_us

pytestmark = pytest.mark.anyio


async def add(tenant: Tenant, minute_us: int, requests: int = 4) -> None:
    """So many requests in a minute, which took 2 ms in the mean, and one 5 ms."""
    await tenant.rows(
        "INSERT INTO traffic VALUES (%s, %s, %s, %s, 7, 3, %s, 5)",
        *(tenant.organization.id, to_datetime(minute_us), tenant.app.id, requests, 2 * requests),
    )


async def test_the_last_minutes_are_those_of_an_organization_newest_first(
    database_url: str,
) -> None:
    tenant, stranger = await make_tenant(database_url), await make_tenant(database_url)
    other = await tenant.another_app()
    now = now_us()
    this_us = now // US_PER_MINUTE * US_PER_MINUTE
    for owner in (other, tenant, stranger):
        for minutes in (-1, 0, 1, 2, 3):  # one of a clock that is ahead
            await add(owner, this_us - minutes * US_PER_MINUTE)
    async with await tenant.connect() as db:
        found = await traffic.recent(db, tenant.organization.id, 2, now)
    slugs = sorted((tenant.app.slug, other.app.slug))
    assert [(one.minute, one.app_slug) for one in found] == [
        (to_datetime(this_us - minutes * US_PER_MINUTE), slug)
        for minutes in (0, 1)
        for slug in slugs
    ]
    [its] = [one for one in found[:2] if one.app_id == tenant.app.id]
    assert its == AppMinute(to_datetime(this_us), tenant.app.id, tenant.app.slug, 4, 7, 3, 2, 5)


async def test_there_is_a_most_of_minutes_and_of_rows(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant, now = await make_tenant(database_url), now_us()
    await add(tenant, now - US_PER_MINUTE)
    await add(tenant, now - 2 * US_PER_MINUTE)
    async with await tenant.connect() as db:
        for minutes in (0, KEPT_MINUTES + 1):
            with pytest.raises(InvalidValueError):
                await traffic.recent(db, tenant.organization.id, minutes, now)
        monkeypatch.setattr(traffic, "MAX_APP_MINUTES", 1)
        [newest] = await traffic.recent(db, tenant.organization.id, KEPT_MINUTES, now)
    assert newest.minute == to_datetime(now - US_PER_MINUTE)
