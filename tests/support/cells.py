"""Cells of a home database, and organizations in them, made as the command line makes them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from core.access.api_keys import deployment_secret, digest
from core.access.invalidation import CHANNEL
from core.clock import Clock
from core.postgres import directory
from core.postgres.directory import CellRecord, OrganizationPlace
from core.postgres.migrate import migrate_cell
from core.timestamps import to_datetime
from tests.support.database import connect
from tests.support.tenant import Tenant, make_tenant, now_us


def url_of(cell: CellRecord, home_url: str) -> str:
    """A connection string whose sessions find the tables of a cell."""
    return make_conninfo(cell.conninfo or home_url, options=f"-c search_path={cell.schema}")


async def add_cell(home_url: str, name: str, server_url: str | None = None) -> CellRecord:
    """A new cell, in the home database or on another server."""
    cell = CellRecord(name, server_url, name)
    async with await psycopg.AsyncConnection.connect(server_url or home_url) as db:
        await db.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
    await migrate_cell(cell, home_url, Clock().now_us())
    await enter_cell(cell, home_url)
    return cell


async def enter_cell(cell: CellRecord, home_url: str) -> None:
    """Have the directory know a cell that is there."""
    async with await connect(home_url) as db:
        assert await directory.add_cell(db, cell, to_datetime(now_us()))


async def make_tenant_in(cell: CellRecord, home_url: str, **options: Any) -> Tenant:
    """A new organization in a cell; options as :func:`tests.support.tenant.make_tenant`."""
    async with await connect(home_url) as home:
        secret = await deployment_secret(home, None)
        tenant = await make_tenant(url_of(cell, home_url), secret=secret, **options)
        organization = tenant.organization
        await directory.reserve(
            home, OrganizationPlace(organization.id, organization.name, cell.name)
        )
        await directory.put_key(home, digest(tenant.key, secret), organization.id, cell.name)
    return tenant


async def announce(home_url: str, organization_id: UUID) -> None:
    """Tell the servers that something of the organization changes."""
    async with await connect(home_url) as home:
        await home.execute("SELECT pg_notify(%s, %s)", (CHANNEL, str(organization_id)))
