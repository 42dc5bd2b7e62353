"""A pooler between the service and PostgreSQL: the same sessions, or a refusal that names it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator

import pytest
from psycopg.conninfo import make_conninfo

from core.postgres import session_lock
from core.postgres.database import Database
from core.postgres.errors import DatabaseUnusableError
from core.postgres.migrate import migrate
from core.postgres.sessions import JOURNAL_SETTINGS, SETTINGS
from tests.support.database import connect
from tests.support.databases import new_database
from tests.support.driver import Driver
from tests.support.grpc_driver import GrpcDriver
from tests.support.http_driver import HttpDriver
from tests.support.pgbouncer import NEEDS_PGBOUNCER, pgbouncer
from tests.support.postgres_server import PostgresServer, postgres_server
from tests.support.running_service import RunningService
from tests.support.tenant import event, make_tenant
from tests.support.waiting import IN_FORCE_SECONDS, eventually

pytestmark = [pytest.mark.anyio, NEEDS_PGBOUNCER]

# What a server's own configuration may say, of which a session through a pooler hears as well.
HOSTILE = {"bytea_output": "escape", "DateStyle": "German", "synchronous_commit": "off"}
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def pooled_server() -> Iterator[PostgresServer]:
    with postgres_server(settings=HOSTILE) as server:
        yield server


@pytest.fixture(params=["", "options"], ids=["refuses options", "drops options"])
def pooled_url(request: pytest.FixtureRequest, pooled_server: PostgresServer) -> Iterator[str]:
    """A database behind a PgBouncer in session mode."""
    with (
        new_database(pooled_server.conninfo, f"pooled_{next(_numbers)}") as url,
        pgbouncer(pooled_server, ignore_startup_parameters=request.param) as pooled,
    ):
        yield make_conninfo(pooled, dbname=url.split("dbname=")[1].split()[0])


async def test_sessions_through_a_pooler_have_every_setting(pooled_url: str) -> None:
    url = make_conninfo(pooled_url, options="-c work_mem=5MB")
    async with Database(url) as database:
        await database.wait_until_reachable(0)
        async with database.connection() as db:
            for name, value in {**SETTINGS, "work_mem": "5MB"}.items():
                cursor = await db.execute("SELECT current_setting(%s)", (name,))
                assert await cursor.fetchone() == (value,)
        async with database.journal_connection(60) as db:
            for name, value in JOURNAL_SETTINGS.items():
                cursor = await db.execute("SELECT current_setting(%s)", (name,))
                assert await cursor.fetchone() == (value,)


async def test_the_service_works_through_a_pooler(
    pooled_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    await migrate(pooled_url)
    tenant = await make_tenant(pooled_url)
    with RunningService(pooled_url) as service:
        drivers: list[Driver] = [
            HttpDriver(service.addresses.http),
            GrpcDriver(service.addresses.grpc),
        ]
        events = [event(actor={"externalId": "j", "displayName": "Jörg"})]
        for driver in drivers:
            first = await driver.ingest(tenant.key, events, driver.name)
            again = await driver.ingest(tenant.key, events, driver.name)
            assert (first.replayed, again.replayed) == (False, True)
            assert first.answer == again.answer
        assert [worker["display_name"] for worker in await tenant.workers()] == ["Jörg"]
        await tenant.revoke()

        async def all_refused() -> bool:
            pings = [await driver.ping(tenant.key) for driver in drivers]
            return {ping.code for ping in pings} == {"key_revoked"}

        await eventually(all_refused, "the revocation is heard of", seconds=IN_FORCE_SECONDS)
        await asyncio.gather(*(driver.close() for driver in drivers))


async def test_a_copy_that_is_refused_while_it_is_sent_holds_no_connection(
    pooled_url: str,
) -> None:
    await migrate(pooled_url)
    tenant = await make_tenant(pooled_url)
    # More than the buffers on the way hold; the first row is refused.
    batch = [event(metadata={"text": "x" * 1_900})] * 500
    with RunningService(pooled_url) as service:
        driver = HttpDriver(service.addresses.http)
        await tenant.rows("ALTER TABLE events ADD CONSTRAINT none CHECK (false) NOT VALID")
        refused = await asyncio.gather(*(driver.ingest(tenant.key, batch) for _ in range(20)))
        assert {reply.code for reply in refused} == {"internal_error"}
        await tenant.rows("ALTER TABLE events DROP CONSTRAINT none")
        accepted = await asyncio.gather(*(driver.ingest(tenant.key, batch) for _ in range(20)))
        assert {reply.code for reply in accepted} == {None}

        async def nothing_is_left() -> bool:
            busy = await tenant.rows(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
                "AND pid <> pg_backend_pid() AND (state <> 'idle' OR xact_start IS NOT NULL)"
            )
            return busy == []

        await eventually(nothing_is_left, "no connection is in a transaction")
        await driver.close()


async def test_a_session_that_ends_gives_up_its_lock(pooled_url: str) -> None:
    """The pooler lends the server's session to others, as new."""
    db = await connect(pooled_url)
    await session_lock.hold(db)
    async with await connect(pooled_url) as other:

        async def is_free() -> bool:
            cursor = await other.execute(
                "SELECT pg_try_advisory_xact_lock(%s)", (session_lock.held_by(db),)
            )
            return await cursor.fetchone() == (True,)

        assert not await is_free()
        await db.close()
        await eventually(is_free, "the lock is free")


async def test_a_pooler_that_shares_connections_is_refused(pooled_server: PostgresServer) -> None:
    with (
        pgbouncer(pooled_server, pool_mode="transaction") as url,
        pytest.raises(DatabaseUnusableError, match="session mode"),
    ):
        await Database(url).wait_until_reachable(60)
