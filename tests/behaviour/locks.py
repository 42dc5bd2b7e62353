"""Rows that another process locks; the test itself is the other process."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from psycopg import AsyncConnection

from tests.support.tenant import Tenant


@contextlib.asynccontextmanager
async def other_transaction(tenant: Tenant, *, commit: bool) -> AsyncIterator[AsyncConnection[Any]]:
    """Another process's transaction; it is committed or rolled back at the end of the block."""
    async with await tenant.connect() as db:
        await db.execute("BEGIN")
        yield db
        await db.execute("COMMIT" if commit else "ROLLBACK")


async def lock_quota(db: AsyncConnection[Any], tenant: Tenant) -> None:
    """Lock the row that every write of the organization needs."""
    await db.execute(
        "UPDATE quota_usage SET used = used WHERE organization_id = %s", (tenant.organization.id,)
    )


async def lock_idempotency_keys(db: AsyncConnection[Any], tenant: Tenant) -> None:
    """Lock the rows of the organization's idempotency keys."""
    await db.execute(
        "UPDATE idempotency_keys SET receipt = receipt WHERE organization_id = %s",
        (tenant.organization.id,),
    )
