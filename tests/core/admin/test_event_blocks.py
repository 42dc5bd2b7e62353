"""An organization's events in blocks."""

from __future__ import annotations

import pytest

from core.admin.event_blocks import event_blocks
from tests.support.people import add_events, add_worker
from tests.support.tenant import make_tenant

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("size", [1, 2, 3, 5, 6])
async def test_each_event_is_in_one_block_of_the_size(database_url: str, size: int) -> None:
    tenant = await make_tenant(database_url)
    async with tenant.in_cell() as cell:
        await add_events(cell, tenant, await add_worker(cell, tenant, "Zoe", None), 5)
        stored = [one["id"] for one in await tenant.events()]
        found = []
        async for after, end in event_blocks(cell.db, tenant.organization.id, size):
            found.append([one for one in stored if after < one <= end])
    assert [one for block in found for one in block] == stored
    assert max(map(len, found)) == min(size, len(stored))
