"""A worker's events and snapshots in numbers."""

from __future__ import annotations

import pytest

from core.admin import worker_activity
from core.admin.worker_activity import Activity
from tests.support.people import MONTH_US, add_events, add_snapshot, add_worker
from tests.support.tenant import make_tenant, now_us

pytestmark = pytest.mark.anyio


async def test_events_are_counted_within_a_bound(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = await make_tenant(database_url)
    owner, before_us = tenant.organization.id, now_us()
    async with tenant.in_cell() as cell:
        zoe = await add_worker(cell, tenant, "Zoe", None)
        alex = await add_worker(cell, tenant, "Alex", None)
        nobody = await add_worker(cell, tenant, "Nobody", None)
        await add_events(cell, tenant, zoe, 4)
        await add_events(cell, tenant, alex, 2)  # the second is one of the three of next month
        await add_snapshot(cell, tenant, zoe, "load", now_us())
        found = await worker_activity.activity(cell.db, owner, zoe)
        assert (found.events, found.snapshots, found.is_whole) == (4, 1, True)
        assert found.first_event_us is not None
        assert found.last_event_us is not None
        assert before_us // 1_000 * 1_000 <= found.first_event_us <= now_us()
        assert found.last_event_us >= before_us + MONTH_US - 1_000
        none = Activity(0, 0, None, None, True)
        assert await worker_activity.activity(cell.db, owner, nobody) == none
        monkeypatch.setattr(worker_activity, "MAX_LOOKED_AT", 3)
        found = await worker_activity.activity(cell.db, owner, zoe)
        assert (found.events, found.is_whole) == (2, False)
