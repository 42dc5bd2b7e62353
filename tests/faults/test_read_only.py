"""A database that takes no writes for a while: said so, and over as soon as it takes them again."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from psycopg import AsyncConnection, sql

from tests.faults.conftest import Client, check_unavailable
from tests.support.database import connect
from tests.support.databases import END_SESSIONS, read_only
from tests.support.grpc_driver import GrpcDriver
from tests.support.http_driver import HttpDriver
from tests.support.running_service import RunningService
from tests.support.tenant import Tenant, event, make_tenant
from tests.support.two_cells import IN_HOME_DATABASE
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

# Two seconds are promised; a busy machine may add to them.
HEALED_SECONDS = 2.0 + 1.5
Fault = Callable[[AsyncConnection[Any]], contextlib.AbstractAsyncContextManager[None]]


@contextlib.asynccontextmanager
async def forbidden(db: AsyncConnection[Any]) -> AsyncIterator[None]:
    """Have no session insert an event within the block."""
    role = sql.Identifier(f"{db.info.dbname}_role")
    await db.execute(sql.SQL("CREATE ROLE {} IN ROLE pg_read_all_data").format(role))
    database = sql.Identifier(db.info.dbname)
    await db.execute(sql.SQL("ALTER DATABASE {} SET role = {}").format(database, role))
    await db.execute(END_SESSIONS)
    try:
        yield
    finally:
        await db.execute(sql.SQL("ALTER DATABASE {} RESET role").format(database))
        await db.execute(END_SESSIONS)
        await db.execute(sql.SQL("DROP ROLE {}").format(role))


@pytest.fixture
async def tenant(database_url: str) -> Tenant:
    return await make_tenant(database_url, IN_HOME_DATABASE)


@pytest.mark.timed
@pytest.mark.parametrize("fault", [read_only, forbidden])
async def test_a_database_that_takes_no_writes_is_unavailable_until_it_does(
    database_url: str, tenant: Tenant, fault: Fault
) -> None:
    with RunningService(database_url) as service:
        http, grpc = HttpDriver(service.addresses.http), GrpcDriver(service.addresses.grpc)
        client = Client(tenant, http)

        async def is_not_ready() -> bool:
            return not await client.is_ready()

        assert (await client.post("before")).status_code == 202
        async with await connect(database_url) as db:
            async with fault(db):
                await eventually(is_not_ready, "the service is not ready")
                check_unavailable(await client.post("batch-1"))
                reply = await grpc.ingest(tenant.key, [event()], "batch-2")
                assert reply.code == "internal_error"
                assert reply.retry_after_seconds, "UNAVAILABLE with RetryInfo"
                assert not await client.is_ready()
            begun = time.monotonic()
            await eventually(
                lambda: client.is_accepted("batch-1"), "it writes", seconds=HEALED_SECONDS
            )
            left = begun + HEALED_SECONDS - time.monotonic()
            await eventually(client.is_ready, "it is ready", seconds=left)
        # No session of the time before is left, in which a write would fail.
        for number in range(20):
            assert (await client.post(f"after-{number}")).status_code == 202
            assert await client.is_ready()
        assert (await grpc.ingest(tenant.key, [event()], "batch-2")).code is None
        await http.close()
        await grpc.close()
