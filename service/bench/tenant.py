"""The throw-away organization of a run."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final

from core import ids
from core.admin import apps, keys, organizations, removal
from core.admin.cell_sessions import CellSession, CellSessions
from core.admin.checks import MAX_REQUESTS_PER_SECOND
from service.bench import sample
from service.bench.load import Storage
from service.bench.resources import postgres_of
from service.bench.target import STATEMENT_SECONDS, Target
from service.runtime import configured_secrets

SLUG: Final = "bench"


@dataclass(frozen=True)
class Tenant:
    """The throw-away organization of a run."""

    organization_id: str
    app_id: str
    storage: Storage  # where its events are
    key: str


@contextlib.asynccontextmanager
async def tenant(
    target: Target, cell_name: str | None, tell: Callable[[str], None]
) -> AsyncIterator[Tenant]:
    """A new organization without limits, which is removed with all its events after the block.

    It lives in the cell of that name, if one is given, or else where a new one is put. ``tell`` is
    told of the removal, which may take long.
    """
    async with (
        CellSessions(target.db, target.conninfo, STATEMENT_SECONDS) as cells,
        _tenant_in(target, await cells.for_new(cell_name), tell) as made,
    ):
        yield made


@contextlib.asynccontextmanager
async def _tenant_in(
    target: Target, cell: CellSession, tell: Callable[[str], None]
) -> AsyncIterator[Tenant]:
    if not cell.is_home:
        target.database.roots[:] = postgres_of(cell.db.info).roots
    now_us = time.time_ns() // 1_000
    name = f"Bench {ids.text('', ids.new(now_us))}"
    fast = MAX_REQUESTS_PER_SECOND
    creating = asyncio.ensure_future(
        organizations.create(cell, name, now_us, requests_per_second=fast)
    )
    try:
        organization = await asyncio.shield(creating)
        app = await apps.create(cell, organization, SLUG, name, [sample.EVENT_TYPE], now_us)
        secrets = await configured_secrets(target.settings, target.db)
        _, key = await keys.create(cell, app, secrets, now_us, requests_per_second=fast)
        yield Tenant(
            ids.text(ids.ORGANIZATION, organization.id),
            ids.text(ids.APP, app.id),
            Storage(
                cell.record.conninfo or target.conninfo,
                cell.record.schema,
                str(organization.id),
                str(app.id),
            ),
            key,
        )
    finally:
        # A throw-away database is removed as a whole.
        if not target.own:
            tell(f"removing the organization {name!r} and its events")
            await removal.remove_organization(cell, (await creating).id)
