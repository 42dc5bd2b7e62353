"""Cells of a home database, and organizations in them, made as the command line makes them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from psycopg.conninfo import make_conninfo

from core.access.invalidation import CHANNEL
from core.admin import cells
from core.postgres import directory
from core.postgres.directory import CellRecord
from core.timestamps import to_datetime
from tests.support.database import connect
from tests.support.tenant import Tenant, make_tenant, now_us


def url_of(cell: CellRecord, home_url: str) -> str:
    """A connection string whose sessions find the tables of a cell."""
    return make_conninfo(cell.conninfo or home_url, options=f"-c search_path={cell.schema}")


async def add_cell(home_url: str, name: str, server_url: str | None = None) -> CellRecord:
    """A new cell, in the home database or on another server."""
    cell = cells.new_record(name, server_url, is_citus=False)
    async with await connect(home_url) as home:
        await cells.add(home, home_url, cell, now_us())
    return cell


async def enter_cell(cell: CellRecord, home_url: str) -> None:
    """Have the directory know a cell that is there."""
    async with await connect(home_url) as db:
        assert await directory.add_cell(db, cell, to_datetime(now_us()))


async def make_tenant_in(cell: CellRecord, home_url: str, **options: Any) -> Tenant:
    """A new organization in a cell; options as :func:`tests.support.tenant.make_tenant`."""
    return await make_tenant(home_url, cell_name=cell.name, **options)


async def announce(home_url: str, organization_id: UUID) -> None:
    """Tell the servers that something of the organization changes."""
    async with await connect(home_url) as home:
        await home.execute("SELECT pg_notify(%s, %s)", (CHANNEL, str(organization_id)))
