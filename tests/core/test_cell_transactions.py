"""A transaction never touches two cells: on two servers it could not be kept whole."""

from __future__ import annotations

import asyncio

import pytest
from psycopg import sql

from tests.support.cells import add_cell, make_tenant_in
from tests.support.database import connect
from tests.support.driver import Driver
from tests.support.grpc_driver import GrpcDriver
from tests.support.http_driver import HttpDriver
from tests.support.running_service import RunningService
from tests.support.sql_rules import cell_tables
from tests.support.tenant import Tenant, event, make_tenant, snapshot

pytestmark = pytest.mark.anyio

ROUNDS = 20


async def transactions(database_url: str, schema: str) -> set[str]:
    """The transactions that wrote a row which is in a cell now."""
    found: set[str] = set()
    async with await connect(database_url) as db:
        for table in cell_tables():
            rows = sql.SQL("SELECT DISTINCT xmin::text FROM {}").format(
                sql.Identifier(schema, table)
            )
            found |= {row[0] for row in await (await db.execute(rows)).fetchall()}
    return found


async def of_both(database_url: str) -> set[str]:
    return await transactions(database_url, "public") & await transactions(database_url, "west")


async def use(driver: Driver, tenant: Tenant, number: int) -> None:
    """Have all kinds of rows written."""
    replies = await asyncio.gather(
        driver.ingest(tenant.key, [event(f"w-{number}")] * 3),
        driver.ingest(tenant.key, [event("w-0")], idempotency_key=f"{driver.name} {number}"),
        driver.ingest(tenant.key, [event(category="?")]),
        driver.snapshot(tenant.key, snapshot(f"w-{number}")),
    )
    assert [reply.code for reply in replies if reply.code not in (None, "invalid_body")] == []


async def test_no_transaction_of_the_service_touches_two_cells(database_url: str) -> None:
    west = await add_cell(database_url, "west")
    tenants = [await make_tenant(database_url), await make_tenant_in(west, database_url)]
    with RunningService(database_url) as service:
        drivers: list[Driver] = [
            HttpDriver(service.addresses.http),
            GrpcDriver(service.addresses.grpc),
        ]
        for number in range(ROUNDS):
            await asyncio.gather(
                *(use(driver, tenant, number) for driver in drivers for tenant in tenants)
            )
        for driver in drivers:
            await driver.close()
    for tenant in tenants:
        assert len(await tenant.events()) == ROUNDS * len(drivers) * 4
    assert len(await transactions(database_url, "west")) >= ROUNDS
    assert await of_both(database_url) == set()


async def test_a_transaction_that_touches_two_cells_is_found(database_url: str) -> None:
    west = await add_cell(database_url, "west")
    await make_tenant(database_url)
    await make_tenant_in(west, database_url)
    assert await of_both(database_url) == set()
    async with await connect(database_url) as db, db.transaction():
        await db.execute("UPDATE organizations SET requests_per_second = 7")
        await db.execute("UPDATE west.organizations SET requests_per_second = 7")
    assert len(await of_both(database_url)) == 1
