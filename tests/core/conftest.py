"""Fixtures of the core's own tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from core.access.callers import find_caller_at_home
from core.postgres.database import Database
from tests.support.direct_writer import DirectWriter
from tests.support.tenant import make_tenant


@pytest.fixture
async def quota_of_five(database_url: str) -> AsyncIterator[DirectWriter]:
    """An organization that may store five events this month."""
    tenant = await make_tenant(database_url, monthly_quota=5)
    async with Database(database_url) as database:
        async with database.connection() as db:
            rows = await (await db.execute("SELECT digest FROM api_keys")).fetchall()
            caller = await find_caller_at_home(db, (rows[0][0],))
        assert caller is not None
        yield DirectWriter(database, tenant, caller)
